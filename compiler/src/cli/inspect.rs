//! `dorefac inspect`: what a model consists of, and what the compiler makes of it.

use super::model::{self, Source};
use super::{Failure, Outcome, print};
use crate::graph::ops::Geometry;
use crate::graph::types::{Elem, ValueType};
use crate::graph::{Graph, NodeId, Value};
use crate::passes::Report;
use dorefa_runtime::Model;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// Arguments of `dorefac inspect`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  dorefac inspect net.onnx\n  dorefac inspect net.so --json")]
pub struct Args {
    /// The model: .so, .onnx or .dorefa
    model: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let document = match model::load(&args.model)? {
        Source::Compiled(model) => of_model(&model),
        Source::Graph(graph) => {
            let (lowered, report) = model::lowered(&args.model, &graph, true)?;
            of_graph(&lowered, &report)
        }
    };
    if args.json {
        let text = serde_json::to_string_pretty(&document).map_err(Failure::run)?;
        return print(&text);
    }
    print(&table(&document))
}

fn of_model(model: &Model) -> Json {
    let port = |p: &dorefa_runtime::model::Port| json!({"name": p.name, "type": p.dtype.name(), "shape": p.dims});
    let layer = |l: &dorefa_runtime::model::Layer| json!({"name": l.name, "operator": l.kernel, "macs": l.macs, "bytes": l.bytes});
    json!({
        "inputs": model.inputs().iter().map(port).collect::<Vec<_>>(),
        "outputs": model.outputs().iter().map(port).collect::<Vec<_>>(),
        "levels": model.levels().iter().map(|l| l.name.clone()).collect::<Vec<_>>(),
        "layers": model.layers().iter().map(layer).collect::<Vec<_>>(),
        "macs": model.layers().iter().map(|l| l.macs).sum::<u64>(),
        "notes": [],
    })
}

fn of_graph(graph: &Graph, report: &Report) -> Json {
    let port = |name: &str, ty: Option<&ValueType>| json!({"name": name, "type": ty.map(kind), "shape": ty.map(|t| t.shape.to_string())});
    let input = |&id: &NodeId| {
        let name = graph.node(id).map_or("", |n| n.name.as_str());
        port(name, graph.value_type(Value { node: id, port: 0 }))
    };
    let layers: Vec<_> = graph.order().into_iter().filter_map(|id| layer(graph, id)).collect();
    let macs: u64 = layers.iter().filter_map(|l| l["macs"].as_u64()).sum();
    json!({
        "name": graph.name,
        "inputs": graph.inputs().iter().map(input).collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(|(n, v)| port(n, graph.value_type(*v))).collect::<Vec<_>>(),
        "layers": layers,
        "macs": macs,
        "notes": report.notes.iter().map(|n| json!({"layer": n.layer, "text": n.text})).collect::<Vec<_>>(),
    })
}

/// One operator that computes on the batch; constants are counted with their readers.
fn layer(graph: &Graph, id: NodeId) -> Option<Json> {
    let node = graph.node(id)?;
    if node.tensor.is_some() || graph.inputs().contains(&id) {
        return None;
    }
    let operands = graph.operands(id);
    let types: Vec<_> = operands.iter().filter_map(|&v| graph.value_type(v)).collect();
    let weights = operands.get(1).and_then(|&v| graph.constant(v)).is_some();
    let geometry = match *types {
        [x, w, ..] if weights && (node.op.name.ends_with("conv") || node.op.name == "matmul") => {
            Geometry::new(&node.attrs, &x.shape, &w.shape).ok()
        }
        _ => None,
    };
    let bytes: u64 = operands
        .iter()
        .filter_map(|&v| Some(stored_bits(graph.value_type(v)?) * graph.constant(v)?.len() as u64))
        .sum::<u64>()
        .div_ceil(8);
    Some(json!({
        "name": node.name,
        "operator": node.op.name,
        "activation_bits": geometry.as_ref().and_then(|_| types.first().map(|t| bits(t))),
        "weight_bits": geometry.as_ref().and_then(|_| types.get(1).map(|t| bits(t))),
        "shape": node.types.first().map(|t| t.shape.to_string()),
        "type": node.types.first().map(kind),
        "macs": geometry.map_or(0, |g| g.macs()),
        "bytes": bytes,
    }))
}

fn bits(ty: &ValueType) -> u32 {
    ty.codes().map_or(32, |c| c.bits())
}

/// Bits that a constant of this type takes for each element when stored.
fn stored_bits(ty: &ValueType) -> u64 {
    match &ty.elem {
        Elem::F32 => 32,
        Elem::Codes(c) => c.bits().into(),
        Elem::Acc(_) => 32,
    }
}

fn kind(ty: &ValueType) -> String {
    match &ty.elem {
        Elem::F32 => "f32".to_owned(),
        Elem::Codes(c) => format!("u{}", c.bits()),
        Elem::Acc(a) => format!("{}…{}", a.lo, a.hi),
    }
}

/// The document as text.
fn table(document: &Json) -> String {
    let text = |v: &Json| match v {
        Json::String(s) => s.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    };
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for key in ["inputs", "outputs"] {
        for port in list(key) {
            let what = key.trim_end_matches('s');
            lines.push(format!("{what} {} {} {}", text(&port["name"]), text(&port["type"]), text(&port["shape"])));
        }
    }
    lines.push(format!(
        "{:<28} {:<18} {:>5} {:<20} {:>12} {:>10}",
        "layer", "operator", "W×A", "shape", "MACs", "bytes"
    ));
    for l in list("layers") {
        let product = match (l["weight_bits"].as_u64(), l["activation_bits"].as_u64()) {
            (Some(w), Some(a)) => format!("{w}×{a}"),
            _ => String::new(),
        };
        let (name, op, shape) = (text(&l["name"]), text(&l["operator"]), text(&l["shape"]));
        lines.push(format!(
            "{name:<28} {op:<18} {product:>5} {shape:<20} {:>12} {:>10}",
            text(&l["macs"]),
            text(&l["bytes"])
        ));
    }
    lines.push(format!("{} MACs an image", text(&document["macs"])));
    for note in list("notes") {
        lines.push(format!("note: {}: {}", text(&note["layer"]), text(&note["text"])));
    }
    lines.join("\n")
}
