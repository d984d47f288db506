//! ONNX files into the graph IR.
//!
//! Reading goes in three steps: [`proto`] checks and parses the bytes, [`tensor`] decodes constants, the importer here walks
//! over the nodes in file order and hands each to the file of its family. Integer values (shapes) are computed at import,
//! float values become nodes of the graph, the file's own arithmetic step by step. All problems are collected.

mod activations;
mod arguments;
mod arith;
mod axes;
mod channels_last;
mod context;
mod finn;
mod layers;
mod limits;
mod linear;
mod normalise;
pub mod proto;
mod qdq;
mod qonnx;
mod quantised;
mod reduce;
mod reshape;
mod resize;
mod select;
mod symbolic;
pub mod tensor;
mod wire;

use super::{ImportError, Problem};
use crate::graph::types::{Dim, Shape, ValueType};
use crate::graph::{Graph, Value, verify};
use context::{Fail, Importer, Known};
use proto::{OnnxDim, OnnxModel, OnnxNode, OnnxValue};
use std::collections::BTreeMap;
use std::path::Path;

/// The greatest file that is read: protobuf's own limit, external data not counted.
const MAX_FILE: u64 = 1 << 31;
/// The greatest extent of an axis of an input.
const MAX_EXTENT: i64 = 1 << 24;

/// Loads a model with its external data.
///
/// # Errors
/// Everything that keeps the file from being imported, one problem an item.
pub fn load(path: &Path) -> Result<Graph, ImportError> {
    let file = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|e| ImportError::of_file(&file, format!("cannot be read: {e}")))?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(ImportError::of_file(&file, "is no file below 2 GiB: keep the weights as external data"));
    }
    let dir = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    // The bytes are dropped once parsed: weights are held twice already while they are decoded.
    let parse = || {
        let bytes = std::fs::read(path).map_err(|e| ImportError::of_file(&file, format!("cannot be read: {e}")))?;
        proto::parse(&bytes).map_err(|e| ImportError::of_file(&file, e))
    };
    either(&file, parse, dir)
}

/// Imports the bytes of a model; `file` names it in messages, `dir` is where external data may lie.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(file: &str, bytes: &[u8], dir: Option<&Path>) -> Result<Graph, ImportError> {
    either(file, || proto::parse(bytes).map_err(|e| ImportError::of_file(file, e)), dir)
}

/// Imports a model with axis 0 as the batch or, where that fails and all extents are fixed, as it stands.
fn either(
    file: &str,
    parse: impl Fn() -> Result<OnnxModel, ImportError>,
    dir: Option<&Path>,
) -> Result<Graph, ImportError> {
    let model = parse()?;
    // Where axis 0 is more than carried through, the file runs as it is: one sample is the whole of its inputs.
    let fixed = |v: &OnnxValue| {
        v.shape.as_ref().is_some_and(|s| s.len() < 6 && s.iter().all(|d| matches!(d, OnnxDim::Value(1..))))
    };
    let whole = model.inputs.iter().all(fixed);
    match import(file, model, dir, 0) {
        Err(problems) if whole => match import(file, parse()?, dir, 1) {
            Err(other) if other.problems.len() >= problems.problems.len() => Err(problems),
            result => result,
        },
        result => result,
    }
}

/// Imports with the file's axis 0 as the batch (`lead` 0), or the whole of its inputs as one sample (1).
fn import(file: &str, mut model: OnnxModel, dir: Option<&Path>, lead: usize) -> Result<Graph, ImportError> {
    let mut problems: Vec<Problem> = Vec::new();
    let problem = |node: &str, operator: &str, message: String| Problem {
        file: file.to_owned(),
        node: node.to_owned(),
        operator: operator.to_owned(),
        message,
    };
    for what in &model.unsupported {
        problems.push(problem("", "", format!("uses {what}")));
    }
    hoist(&mut model);
    let (nodes, inputs, outputs) =
        (std::mem::take(&mut model.nodes), std::mem::take(&mut model.inputs), std::mem::take(&mut model.outputs));
    let mut im = Importer::new(&mut model, &nodes, dir, lead);
    for input in &inputs {
        match input_type(input, lead) {
            Ok((ty, batch)) => {
                if lead == 0 && batch.is_some() && im.file_batch.is_some() && batch != im.file_batch {
                    problems.push(problem(
                        &input.name,
                        "input",
                        "has another batch than the input before it".to_owned(),
                    ));
                }
                im.file_batch = im.file_batch.or(batch);
                let value = im.graph.add_input(&input.name, ty);
                if input.elem_type > 1 {
                    im.mark_integer(value);
                }
                im.define(&input.name, Known::Value(value));
            }
            Err(message) => {
                problems.push(problem(&input.name, "input", message));
                im.define(&input.name, Known::Poisoned);
            }
        }
    }
    for node in &nodes {
        let name = node_name(node);
        let taken: Vec<_> = node.outputs.iter().filter(|o| !o.is_empty() && im.is_defined(o)).collect();
        for name in taken {
            let message = format!("produces `{name}`, which exists already: a name may be given once");
            problems.push(problem(node_name(node), &operator(node, &model.opsets), message));
        }
        im.further.clear();
        let handled = limits::before(&mut im, node).and_then(|()| handle(&mut im, node)).and_then(limits::after);
        let (known, message) = match handled {
            Ok(known) => {
                integer_result(&mut im, node, &known);
                (known, None)
            }
            Err(Fail::Poisoned) => (Known::Poisoned, None),
            Err(Fail::Message(message)) => (Known::Poisoned, Some(message)),
        };
        // What is missing is told even where another input, or the node, had a problem of its own.
        let mut messages: Vec<String> = message.map(remedied).into_iter().collect();
        let poisoned = matches!(known, Known::Poisoned);
        if poisoned {
            messages.extend(im.missing_inputs(node));
        }
        problems.extend(messages.into_iter().map(|m| problem(name, &operator(node, &model.opsets), m)));
        if let Some(output) = node.outputs.first() {
            im.define(output, known);
        }
        // Masks, indices and statistics are never computed; who reads them is told so, unless the node had a problem itself.
        let rest = if poisoned { Known::Poisoned } else { Known::Unavailable };
        let further = std::mem::take(&mut im.further).into_iter().chain(std::iter::repeat(rest));
        for (output, known) in node.outputs.iter().skip(1).zip(further).filter(|(o, _)| !o.is_empty()) {
            im.define(output, known);
        }
    }
    if outputs.is_empty() {
        problems.push(problem("", "", "has no output".to_owned()));
    }
    for output in &outputs {
        match output_value(&mut im, &output.name) {
            Ok(value) => im.graph.add_output(&output.name, value),
            Err(Fail::Poisoned) => {}
            Err(Fail::Message(message)) => problems.push(problem(&output.name, "output", message)),
        }
    }
    let mut graph = im.graph;
    graph.metadata = model.metadata;
    if problems.is_empty()
        && let Err(messages) = verify::verify(&graph)
    {
        problems.extend(messages.into_iter().map(|m| problem("", "", m)));
    }
    if problems.is_empty() { Ok(graph) } else { Err(ImportError { problems }) }
}

/// A message that says what to do: most do so themselves.
fn remedied(message: String) -> String {
    let advice = ["export", "supported", "expected", "must", "store", "fold", "save"];
    if advice.iter().any(|word| message.contains(word)) {
        return message;
    }
    format!("{message}; correct that in the network and export it again")
}

/// Bytes from which on the tensor of a `Constant` is moved.
const LARGE: usize = 1 << 16;

/// Makes initialisers of large `Constant` nodes, whose data go as each is decoded: those of a node stay as long as the nodes.
fn hoist(model: &mut OnnxModel) {
    let OnnxModel { nodes, initializers, inputs, .. } = model;
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for name in nodes.iter().flat_map(|n| &n.outputs).chain(inputs.iter().map(|i| &i.name)) {
        *makers.entry(name).or_default() += 1;
    }
    let movable = |node: &OnnxNode| {
        let [name] = &*node.outputs else { return false };
        let large = matches!(node.attributes.get("value"), Some(proto::OnnxAttr::Tensor(t)) if t.raw.len() >= LARGE);
        let sole = makers.get(name.as_str()) == Some(&1) && !initializers.contains_key(name);
        large && sole && node.op_type == "Constant" && matches!(node.domain.as_str(), "" | "ai.onnx")
    };
    let which: Vec<bool> = nodes.iter().map(movable).collect();
    let mut which = which.into_iter();
    nodes.retain_mut(|node| {
        if which.next() != Some(true) {
            return true;
        }
        let Some(proto::OnnxAttr::Tensor(tensor)) = node.attributes.remove("value") else { return true };
        initializers.extend(node.outputs.first().map(|name| (name.clone(), *tensor)));
        false
    });
}

/// An output: a constant is one of every sample.
fn output_value(im: &mut Importer<'_>, name: &str) -> Result<Value, Fail> {
    let value = im.value(name)?;
    if im.lead == 0 && !im.shape(value)?.has_batch() {
        return Err(axes::BATCH.into());
    }
    im.repeated(&OnnxNode { name: name.to_owned(), ..OnnxNode::default() }, value)
}

/// Results of integers are integers, but for casts and quantisers, which say so themselves.
fn integer_result(im: &mut Importer<'_>, node: &OnnxNode, known: &Known) {
    let Known::Value(result) = *known else { return };
    if matches!(node.op_type.as_str(), "Cast" | "DequantizeLinear" | "Identity") {
        return;
    }
    let mut inputs = node.inputs.iter().filter(|i| !i.is_empty()).peekable();
    let some = inputs.peek().is_some();
    let whole = inputs.all(|i| match im.known(i) {
        Ok(Known::Value(v)) => im.is_integer(v),
        Ok(Known::Ints(..)) => true,
        Ok(Known::Tensor(t)) => t.as_f32().is_none(),
        _ => false,
    });
    if (some && whole) || matches!(node.op_type.as_str(), "ArgMax" | "ArgMin") {
        im.mark_integer(result);
    }
}

/// The name by which messages and the graph know a node.
fn node_name(node: &OnnxNode) -> &str {
    if node.name.is_empty() { node.outputs.first().map_or("", |s| s.as_str()) } else { &node.name }
}

/// The operator with its domain and the version of its operator set, for messages.
fn operator(node: &OnnxNode, opsets: &BTreeMap<String, i64>) -> String {
    let (domain, name) = (node.domain.as_str(), &node.op_type);
    let version = if matches!(domain, "" | "ai.onnx") {
        opsets.get("").or_else(|| opsets.get("ai.onnx"))
    } else {
        opsets.get(domain)
    };
    let set = version.map_or("opset not imported".to_owned(), |v| format!("opset {v}"));
    if domain.is_empty() { format!("{name} ({set})") } else { format!("{domain}::{name} ({set})") }
}

/// The type of an input, and its fixed batch if it has one. Axis 0 becomes the batch where `lead` is 0. Integers and truth
/// values are given as floats.
fn input_type(input: &OnnxValue, lead: usize) -> Result<(ValueType, Option<i64>), String> {
    if !matches!(input.elem_type, 0 | 1 | 9) && tensor::int_range(input.elem_type).is_none() && input.elem_type != 7 {
        let name = tensor::type_name(input.elem_type);
        return Err(format!("has elements of type {name}: export the model with a FLOAT input"));
    }
    let advice = "export the model with fixed extents (only axis 0, the batch, may be open)";
    let dims = input.shape.as_ref().filter(|s| !s.is_empty() || lead == 1);
    let dims = dims.ok_or_else(|| format!("has no shape: {advice}"))?;
    let mut rest = Vec::new();
    for (axis, dim) in dims.iter().enumerate().skip(1 - lead) {
        match dim {
            OnnxDim::Value(n) if (1..=MAX_EXTENT).contains(n) => rest.push(*n as usize),
            OnnxDim::Value(n) => return Err(format!("has extent {n} at axis {axis}: {advice}")),
            OnnxDim::Param(p) => return Err(format!("has the open extent `{p}` at axis {axis}: {advice}")),
            OnnxDim::Unknown => return Err(format!("has no extent at axis {axis}: {advice}")),
        }
    }
    let shape = Shape::batched(&rest);
    if shape.sample_len().is_none_or(|n| n > 1 << 32) {
        return Err(format!("has the shape {shape}, which is too large"));
    }
    let batch = match dims.first() {
        Some(OnnxDim::Value(n)) if *n >= 1 => Some(*n),
        Some(OnnxDim::Value(n)) if *n < -1 => return Err(format!("has the batch {n}")),
        _ => None,
    };
    debug_assert_eq!(shape.0.first(), Some(&Dim::Batch));
    Ok((ValueType::f32(shape), batch))
}

/// Hands a node to its family.
fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Known, Fail> {
    match node.domain.as_str() {
        "" | "ai.onnx" => {
            if let Some(known) = symbolic::handle(im, node)? {
                return Ok(known);
            }
            let families = [
                layers::handle,
                linear::handle,
                arith::handle,
                activations::handle,
                normalise::handle,
                reduce::handle,
                reshape::handle,
                select::handle,
                resize::handle,
                qdq::handle,
                quantised::handle,
            ];
            for family in families {
                if let Some(known) = family(im, node)? {
                    return Ok(known);
                }
            }
            // Exporters that forget the domain.
            quantisers(im, node)
        }
        // The literal placeholder that some versions of the exporters wrote.
        "qonnx.custom_op.general" | "onnx.brevitas" | "finn.custom_op.general" | "{DOMAIN_STRING}" => {
            quantisers(im, node)
        }
        "qonnx.custom_op.channels_last" => channels_last::handle(im, node),
        // ONNX Runtime's quantiser writes these two so where the operator set lacks the element type; they mean the same.
        "com.microsoft" if matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear") => {
            qdq::handle(im, node)?.ok_or(Fail::Poisoned)
        }
        _ => Err(Fail::Message(
            "operators of this domain are not supported: export with the standard operators or QONNX".to_owned(),
        )),
    }
}

fn quantisers(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Known, Fail> {
    if let Some(known) = qonnx::handle(im, node)? {
        return Ok(known);
    }
    if let Some(known) = finn::handle(im, node)? {
        return Ok(known);
    }
    Err(Fail::Message("is not supported: remove it before the export or replace it by supported operators".to_owned()))
}

#[cfg(test)]
mod tests;
