//! The only file that knows protobuf: from the bytes of a file to a neutral [`OnnxModel`].

use super::tensor::RawTensor;
use super::wire;
use onnx_protobuf::Message;
use onnx_protobuf::{AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use std::collections::BTreeMap;

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum OnnxAttr {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A string.
    Str(String),
    /// A tensor.
    Tensor(Box<RawTensor>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of integers.
    Ints(Vec<i64>),
    /// Any other kind: graphs, sparse tensors, types, lists of strings.
    Other(&'static str),
}

/// An operator applied.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct OnnxNode {
    /// Its name; may be empty or not unique.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// Its domain; empty for ONNX's own.
    pub domain: String,
    /// Names of the inputs; empty where an optional one is left out.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Attributes.
    pub attributes: BTreeMap<String, OnnxAttr>,
}

/// A dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnnxDim {
    /// A number.
    Value(i64),
    /// A name, such as `batch`.
    Param(String),
    /// Nothing said.
    Unknown,
}

/// An input or output of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxValue {
    /// Name.
    pub name: String,
    /// Element type code (`TensorProto.DataType`), 0 where none is declared.
    pub elem_type: i32,
    /// Shape, if declared.
    pub shape: Option<Vec<OnnxDim>>,
}

/// What an ONNX file says, in its own words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnnxModel {
    /// IR version.
    pub ir_version: i64,
    /// Version of each imported operator set.
    pub opsets: BTreeMap<String, i64>,
    /// The program that wrote the file.
    pub producer: String,
    /// Name of the graph.
    pub name: String,
    /// Metadata properties.
    pub metadata: BTreeMap<String, String>,
    /// Operators in file order.
    pub nodes: Vec<OnnxNode>,
    /// Constants by name, not decoded yet.
    pub initializers: BTreeMap<String, RawTensor>,
    /// Inputs that are no initialisers.
    pub inputs: Vec<OnnxValue>,
    /// Outputs.
    pub outputs: Vec<OnnxValue>,
    /// Things in the file that no importer understands: functions, sparse initialisers.
    pub unsupported: Vec<String>,
}

/// Checks and parses the bytes of an ONNX file.
///
/// # Errors
/// What is malformed.
pub fn parse(bytes: &[u8]) -> Result<OnnxModel, String> {
    wire::check(bytes)?;
    let model = ModelProto::parse_from_bytes(bytes).map_err(|e| format!("not a readable ONNX model: {e}"))?;
    convert(model)
}

fn convert(model: ModelProto) -> Result<OnnxModel, String> {
    let mut out = OnnxModel {
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        ..OnnxModel::default()
    };
    for f in &model.functions {
        out.unsupported.push(format!("the model-local function `{}`: inline it before the export", f.name));
    }
    out.opsets = model.opset_import.into_iter().map(|o| (o.domain, o.version)).collect();
    out.metadata = model.metadata_props.into_iter().map(|p| (p.key, p.value)).collect();
    let graph = model.graph.into_option().ok_or("has no graph: the file is empty or no ONNX model")?;
    out.name = graph.name;
    if !graph.sparse_initializer.is_empty() {
        out.unsupported.push("sparse initialisers: store them densely".to_owned());
    }
    out.initializers = graph.initializer.into_iter().map(|t| (t.name.clone(), tensor(t))).collect();
    out.nodes = graph.node.into_iter().map(node).collect();
    // Old IR versions list the initialisers among the inputs: those are constants.
    out.inputs = graph.input.into_iter().map(value).filter(|v| !out.initializers.contains_key(&v.name)).collect();
    out.outputs = graph.output.into_iter().map(value).collect();
    Ok(out)
}

fn node(n: NodeProto) -> OnnxNode {
    OnnxNode {
        name: n.name,
        op_type: n.op_type,
        domain: n.domain,
        inputs: n.input,
        outputs: n.output,
        attributes: n.attribute.into_iter().map(attribute).collect(),
    }
}

fn attribute(a: AttributeProto) -> (String, OnnxAttr) {
    use onnx_protobuf::attribute_proto::AttributeType as T;
    let kind = a.type_.enum_value().unwrap_or(T::UNDEFINED);
    let value = match kind {
        T::FLOAT => OnnxAttr::Float(a.f),
        T::INT => OnnxAttr::Int(a.i),
        T::STRING => OnnxAttr::Str(String::from_utf8_lossy(&a.s).into_owned()),
        T::TENSOR => match a.t.into_option() {
            Some(t) => OnnxAttr::Tensor(Box::new(tensor(t))),
            None => OnnxAttr::Other("tensor without content"),
        },
        T::FLOATS => OnnxAttr::Floats(a.floats),
        T::INTS => OnnxAttr::Ints(a.ints),
        T::GRAPH | T::GRAPHS => OnnxAttr::Other("graph"),
        T::STRINGS => OnnxAttr::Other("list of strings"),
        T::UNDEFINED => OnnxAttr::Other("attribute without a type"),
        _ => OnnxAttr::Other("sparse tensor or type"),
    };
    (a.name, value)
}

fn value(v: ValueInfoProto) -> OnnxValue {
    use onnx_protobuf::tensor_shape_proto::dimension::Value as D;
    let (mut elem_type, mut shape) = (0, None);
    if let Some(ty) = v.type_.as_ref().filter(|t| t.has_tensor_type()) {
        let tensor = ty.tensor_type();
        elem_type = tensor.elem_type;
        shape = tensor.shape.as_ref().map(|s| {
            s.dim
                .iter()
                .map(|d| match &d.value {
                    Some(D::DimValue(n)) => OnnxDim::Value(*n),
                    Some(D::DimParam(p)) => OnnxDim::Param(p.clone()),
                    _ => OnnxDim::Unknown,
                })
                .collect()
        });
    }
    OnnxValue { name: v.name, elem_type, shape }
}

fn tensor(t: TensorProto) -> RawTensor {
    use onnx_protobuf::tensor_proto::DataLocation;
    RawTensor {
        external: (t.data_location.enum_value() == Ok(DataLocation::EXTERNAL))
            .then(|| t.external_data.into_iter().map(|p| (p.key, p.value)).collect()),
        segmented: t.segment.is_some(),
        name: t.name,
        dims: t.dims,
        data_type: t.data_type,
        raw: t.raw_data,
        floats: t.float_data,
        ints: t.int32_data,
        longs: t.int64_data,
        doubles: t.double_data,
        unsigned: t.uint64_data,
    }
}
