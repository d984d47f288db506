//! One node of the graph to one node of ONNX, operator set 17; the operators of the graph's own table that ONNX does not
//! have are the dialects' matter, or are reported.

use super::Dialect;
use crate::graph::attrs::Attrs;
use crate::graph::types::{Dim, Elem, Shape, ValueType};
use crate::graph::{Graph, Node, Value};
use crate::import::onnx::proto::{OnnxAttr, OnnxDim, OnnxModel, OnnxNode, OnnxValue};
use crate::import::onnx::tensor::RawTensor;
use std::collections::{BTreeMap, BTreeSet};

/// Version of ONNX's own operator set that is written, and the first IR version that has it.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// The domain of QONNX's quantisers.
const QONNX: &str = "qonnx.custom_op.general";
/// Element type codes of ONNX.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Operators that differ in their names only.
const PLAIN: &[(&str, &str)] = &[
    ("add", "Add"),
    ("sub", "Sub"),
    ("mul", "Mul"),
    ("div", "Div"),
    ("min", "Min"),
    ("max", "Max"),
    ("neg", "Neg"),
    ("abs", "Abs"),
    ("sqrt", "Sqrt"),
    ("sign", "Sign"),
    ("relu", "Relu"),
    ("exp", "Exp"),
    ("tanh", "Tanh"),
    ("sigmoid", "Sigmoid"),
    ("erf", "Erf"),
    ("log", "Log"),
    ("global_average_pool", "GlobalAveragePool"),
];

/// The model that `graph` is, every node of which has its counterpart in the dialect.
///
/// # Errors
/// One line a node that has none.
pub(super) fn model(graph: &Graph, dialect: Dialect) -> Result<OnnxModel, Vec<String>> {
    let mut writer = Writer { graph, dialect, names: BTreeMap::new(), used: BTreeSet::new(), model: header(graph) };
    let identities = writer.name_values();
    let mut problems = Vec::new();
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        if let Err(message) = writer.node(node) {
            problems.push(format!("{} ({}): {message}", node.name, node.op.name));
        }
    }
    for (from, to) in identities {
        writer.push("Identity", "", &to, vec![from], BTreeMap::new());
    }
    if problems.is_empty() { Ok(writer.model) } else { Err(problems) }
}

fn header(graph: &Graph) -> OnnxModel {
    OnnxModel {
        ir_version: IR_VERSION,
        opsets: BTreeMap::from([(String::new(), OPSET)]),
        producer: format!("dorefac {}", env!("CARGO_PKG_VERSION")),
        name: if graph.name.is_empty() { "model".to_owned() } else { graph.name.clone() },
        metadata: graph.metadata.clone(),
        ..OnnxModel::default()
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    dialect: Dialect,
    /// Names of values in the file, unique.
    names: BTreeMap<Value, String>,
    used: BTreeSet<String>,
    model: OnnxModel,
}

type Attributes = BTreeMap<String, OnnxAttr>;

impl Writer<'_> {
    /// Names inputs, then outputs, as the graph does, and declares both; then names all other values. Gives the outputs
    /// that are another value under a second name.
    fn name_values(&mut self) -> Vec<(String, String)> {
        for &id in self.graph.inputs() {
            if let Some(node) = self.graph.node(id) {
                let name = self.fresh(&node.name);
                self.model.inputs.push(declared(&name, node.types.first()));
                self.names.insert(Value { node: id, port: 0 }, name);
            }
        }
        let mut second = Vec::new();
        for (name, value) in self.graph.outputs() {
            let name = self.fresh(name);
            self.model.outputs.push(declared(&name, self.graph.value_type(*value)));
            if self.names.contains_key(value) || self.graph.constant(*value).is_some() {
                second.push((*value, name));
            } else {
                self.names.insert(*value, name);
            }
        }
        for id in self.graph.order() {
            let value = Value { node: id, port: 0 };
            if let Some(node) = self.graph.node(id).filter(|_| !self.names.contains_key(&value)) {
                let name = self.fresh(&node.name);
                self.names.insert(value, name);
            }
        }
        second.into_iter().map(|(value, name)| (self.name(value), name)).collect()
    }

    /// A name that no value has yet.
    fn fresh(&mut self, hint: &str) -> String {
        let mut name = hint.to_owned();
        let mut count = 1u64;
        while name.is_empty() || !self.used.insert(name.clone()) {
            count += 1;
            name = format!("{hint}_{count}");
        }
        name
    }

    fn name(&self, value: Value) -> String {
        self.names.get(&value).cloned().unwrap_or_default()
    }

    fn push(&mut self, op: &str, domain: &str, output: &str, inputs: Vec<String>, attributes: Attributes) {
        self.model.nodes.push(OnnxNode {
            name: output.to_owned(),
            op_type: op.to_owned(),
            domain: domain.to_owned(),
            inputs,
            outputs: vec![output.to_owned()],
            attributes,
        });
    }

    /// Adds a constant and gives its name.
    fn constant(&mut self, name: &str, dims: &[usize], data_type: i32, raw: Vec<u8>) -> String {
        let name = self.fresh(name);
        self.initializer(&name, dims, data_type, raw);
        name
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data_type: i32, raw: Vec<u8>) {
        let dims = dims.iter().map(|&d| d as i64).collect();
        let tensor = RawTensor { name: name.to_owned(), dims, data_type, raw, ..RawTensor::default() };
        self.model.initializers.insert(name.to_owned(), tensor);
    }

    fn scalar(&mut self, name: &str, value: f32) -> String {
        self.constant(name, &[], FLOAT, value.to_le_bytes().to_vec())
    }

    fn longs(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(name, &[values.len()], INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        let value = Value { node: node.id, port: 0 };
        if node.types.first().is_none_or(|t| t.elem != Elem::F32) {
            return Err("holds integers that the compiler's passes made: export the model as it was before".to_owned());
        }
        let (name, operands) = (self.name(value), self.graph.operands(node.id));
        let mut inputs: Vec<String> = operands.iter().map(|&v| self.name(v)).collect();
        let shape = operands.first().and_then(|&v| self.graph.value_type(v)).map(|t| t.shape.clone());
        let shape = shape.unwrap_or_default();
        let attrs = &node.attrs;
        let (op, attributes) = match node.op.name {
            "input" => return Ok(()),
            "constant" => {
                let tensor = node.tensor.as_ref().ok_or("has no data")?;
                let data = tensor.as_f32().ok_or("is no constant of floats")?;
                let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.initializer(&name, tensor.shape(), FLOAT, raw);
                return Ok(());
            }
            "conv" => ("Conv", convolution(attrs, &shape, &self.shape_of(operands.get(1)))?),
            "matmul" => ("Gemm", [("transB".to_owned(), OnnxAttr::Int(1))].into()),
            "batch_norm" => ("BatchNormalization", float("epsilon", attrs.float("epsilon", 1e-5))),
            "leaky_relu" => ("LeakyRelu", float("alpha", attrs.float("alpha", 0.01))),
            "softmax" => ("Softmax", [("axis".to_owned(), OnnxAttr::Int(-1))].into()),
            "concat" => ("Concat", [("axis".to_owned(), OnnxAttr::Int(attrs.int("axis", 1)))].into()),
            "transpose" => ("Transpose", [("perm".to_owned(), OnnxAttr::Ints(attrs.ints("perm").to_vec()))].into()),
            "max_pool" => ("MaxPool", pool(attrs)),
            "average_pool" => {
                let mut a = pool(attrs);
                a.insert("count_include_pad".to_owned(), OnnxAttr::Int(attrs.bool("count_padding", false).into()));
                ("AveragePool", a)
            }
            "round" => (rounding(attrs.word("mode", "half_even"))?, Attributes::new()),
            "clip" => {
                inputs.extend(self.bounds(&name, attrs));
                ("Clip", Attributes::new())
            }
            "reshape" => {
                // 0 copies axis 0, the batch.
                let batch = shape.has_batch().then_some(0i64);
                let target: Vec<i64> = batch.into_iter().chain(attrs.ints("shape").iter().copied()).collect();
                inputs.push(self.longs(&format!("{name}_shape"), &target));
                ("Reshape", Attributes::new())
            }
            "pad" => {
                let &[t, l, b, r] = attrs.ints("pads") else { return Err("`pads` takes four numbers".to_owned()) };
                inputs.push(self.longs(&format!("{name}_pads"), &[0, 0, t, l, 0, 0, b, r]));
                inputs.push(self.scalar(&format!("{name}_value"), attrs.float("value", 0.0)));
                ("Pad", Attributes::new())
            }
            "reduce_mean" | "reduce_max" | "reduce_sum" => self.reduction(node, &name, &shape, &mut inputs),
            other => match PLAIN.iter().find(|(native, _)| *native == other) {
                Some((_, op)) => (*op, Attributes::new()),
                None => return self.quantiser(node, &name, inputs),
            },
        };
        self.push(op, "", &name, inputs, attributes);
        Ok(())
    }

    fn shape_of(&self, value: Option<&Value>) -> Shape {
        value.and_then(|&v| self.graph.value_type(v)).map(|t| t.shape.clone()).unwrap_or_default()
    }

    /// The inputs of Clip behind the first; an absent bound is an empty name.
    fn bounds(&mut self, name: &str, attrs: &Attrs) -> Vec<String> {
        let (lo, hi) = (attrs.float("lo", f32::NEG_INFINITY), attrs.float("hi", f32::INFINITY));
        let mut names = vec![match lo > f32::NEG_INFINITY {
            true => self.scalar(&format!("{name}_min"), lo),
            false => String::new(),
        }];
        if hi < f32::INFINITY {
            names.push(self.scalar(&format!("{name}_max"), hi));
        }
        names
    }

    /// In this operator set the axes of a sum are an input, those of the others an attribute.
    fn reduction(
        &mut self,
        node: &Node,
        name: &str,
        shape: &Shape,
        inputs: &mut Vec<String>,
    ) -> (&'static str, Attributes) {
        let given = node.attrs.ints("axes");
        let axes: Vec<i64> = if given.is_empty() { (0..shape.rank() as i64).collect() } else { given.to_vec() };
        let mut attributes = Attributes::new();
        attributes.insert("keepdims".to_owned(), OnnxAttr::Int(node.attrs.bool("keepdims", true).into()));
        if node.op.name == "reduce_sum" {
            inputs.push(self.longs(&format!("{name}_axes"), &axes));
            return ("ReduceSum", attributes);
        }
        attributes.insert("axes".to_owned(), OnnxAttr::Ints(axes));
        (if node.op.name == "reduce_mean" { "ReduceMean" } else { "ReduceMax" }, attributes)
    }

    /// The quantisers of QONNX; whatever else has no counterpart.
    fn quantiser(&mut self, node: &Node, name: &str, mut inputs: Vec<String>) -> Result<(), String> {
        let attrs = &node.attrs;
        let mut attributes = Attributes::new();
        let op = match node.op.name {
            "quant" | "bipolar_quant" | "multi_threshold" if self.dialect == Dialect::Float => {
                return Err("is no operator of the dialect `float`: pass --dialect qonnx".to_owned());
            }
            "quant" if attrs.int("bits", 8) == 1 && attrs.bool("signed", true) => {
                return Err("has the levels −1 and 0, which the dialect takes for ±1: quantise it to 2 bits".to_owned());
            }
            "quant" => {
                inputs.push(self.scalar(&format!("{name}_bits"), attrs.int("bits", 8) as f32));
                let mode = attrs.word("mode", "half_even");
                let mode = if mode == "half_even" { "ROUND".to_owned() } else { mode.to_ascii_uppercase() };
                attributes.insert("signed".to_owned(), OnnxAttr::Int(attrs.bool("signed", true).into()));
                attributes.insert("narrow".to_owned(), OnnxAttr::Int(attrs.bool("narrow", false).into()));
                attributes.insert("rounding_mode".to_owned(), OnnxAttr::Str(mode));
                "Quant"
            }
            "bipolar_quant" => "BipolarQuant",
            "multi_threshold" => {
                let operands = self.graph.operands(node.id);
                let count = self.shape_of(operands.get(1)).per_sample().get(1).copied().unwrap_or(1);
                let layout = if self.shape_of(operands.first()).rank() == 2 { "NC" } else { "NCHW" };
                let bits = usize::BITS - count.leading_zeros();
                attributes.insert("out_dtype".to_owned(), OnnxAttr::Str(format!("UINT{bits}")));
                attributes.insert("data_layout".to_owned(), OnnxAttr::Str(layout.to_owned()));
                "MultiThreshold"
            }
            "quantize_weights" => {
                return Err(
                    "quantises weights that are computed from inputs: only constants have an ONNX form".to_owned()
                );
            }
            _ => return Err("has no counterpart in ONNX: export the model without it".to_owned()),
        };
        self.model.opsets.insert(QONNX.to_owned(), 1);
        self.push(op, QONNX, name, inputs, attributes);
        Ok(())
    }
}

fn declared(name: &str, ty: Option<&ValueType>) -> OnnxValue {
    let extent =
        |d: &Dim| if let Dim::Fixed(n) = d { OnnxDim::Value(*n as i64) } else { OnnxDim::Param("N".to_owned()) };
    let shape = ty.map(|t| t.shape.0.iter().map(extent).collect());
    OnnxValue { name: name.to_owned(), elem_type: FLOAT, shape }
}

fn float(name: &str, value: f32) -> Attributes {
    [(name.to_owned(), OnnxAttr::Float(value))].into()
}

/// Strides, padding and, where there is one, the window of a convolution or pool, all spelt out.
fn window(attrs: &Attrs, kernel: &[i64]) -> Attributes {
    let list = |name: &str, default: &[i64]| {
        let given = attrs.ints(name);
        OnnxAttr::Ints(if given.is_empty() { default } else { given }.to_vec())
    };
    [
        ("kernel_shape".to_owned(), OnnxAttr::Ints(kernel.to_vec())),
        ("strides".to_owned(), list("strides", &[1, 1])),
        ("pads".to_owned(), list("pads", &[0, 0, 0, 0])),
    ]
    .into()
}

fn pool(attrs: &Attrs) -> Attributes {
    let mut a = window(attrs, attrs.ints("kernel"));
    a.insert("ceil_mode".to_owned(), OnnxAttr::Int(attrs.bool("ceil", false).into()));
    a
}

fn convolution(attrs: &Attrs, input: &Shape, weights: &Shape) -> Result<Attributes, String> {
    let (4, &[Dim::Fixed(_), Dim::Fixed(_), Dim::Fixed(kh), Dim::Fixed(kw)]) = (input.rank(), &*weights.0) else {
        return Err(format!("reads {input} with weights {weights}: ONNX needs four axes, write a matmul or reshape"));
    };
    let mut a = window(attrs, &[kh as i64, kw as i64]);
    let dilations = attrs.ints("dilations");
    a.insert("dilations".to_owned(), OnnxAttr::Ints(if dilations.is_empty() { &[1, 1] } else { dilations }.to_vec()));
    a.insert("group".to_owned(), OnnxAttr::Int(attrs.int("groups", 1)));
    Ok(a)
}

fn rounding(mode: &str) -> Result<&'static str, String> {
    match mode {
        "half_even" => Ok("Round"),
        "ceil" => Ok("Ceil"),
        "floor" => Ok("Floor"),
        _ => Err(format!("rounds in the mode `{mode}`, which ONNX does not have: use half_even, ceil or floor")),
    }
}
