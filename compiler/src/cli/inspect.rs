//! `dorefac inspect`: what a model consists of, and what the compiler makes of it.

use super::model::{self, Source};
use super::{Failure, Outcome, print};
use crate::compile::Options;
use crate::graph::types::ValueType;
use crate::graph::{Graph, NodeId, Value};
use crate::passes::Report;
use crate::report::{ModelReport, Recognised, columns, kind};
use dorefa_runtime::Model;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// Arguments of `dorefac inspect`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  dorefac inspect net.onnx\n  dorefac inspect net.so --json")]
pub struct Args {
    /// The model: .so, .onnx or .dorefa
    model: PathBuf,
    /// Compute a layer by this kernel: LAYER=NAME, or *=NAME for every layer that can; an unknown name lists all
    #[arg(long, value_name = "LAYER=NAME")]
    kernel: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand: the steps of the compiled model; of one that cannot be compiled its operators, and every problem.
pub fn run(args: &Args) -> Outcome {
    let options = Options { kernels: model::wishes(&args.kernel)?, ..Options::default() };
    let graph = match model::load(&args.model) {
        Ok(Source::Compiled(_)) if !options.kernels.is_empty() => {
            return Err(model::problem(&args.model, &"is compiled, so its kernels are chosen; leave --kernel out"));
        }
        Ok(Source::Compiled(model)) => return show(args, &of_model(&model), None),
        Ok(Source::Graph(graph)) => graph,
        Err(failure) => return Err(problems(args, json!({}), failure)),
    };
    let target = target_lexicon::Triple::host();
    let name = if target.architecture == target_lexicon::Architecture::X86_64 { "x86-64-v3" } else { "generic" };
    let levels = model::levels(name, &target)?;
    let (lowered, notes) = match model::lowered(&args.model, &graph, true) {
        Ok(done) => done,
        Err(failure) => {
            let mut document = ports(&graph);
            merge(&mut document, operators(&graph, &Report::default()));
            return Err(problems(args, document, failure));
        }
    };
    let mut document = ports(&lowered);
    match model::compiled(&args.model, &lowered, &levels, &options) {
        Ok(compiled) => {
            let report = ModelReport::new(&lowered, &compiled, &[name.to_owned()], &notes);
            merge(&mut document, report.json());
            let layers = report.layers.iter().filter_map(|l| Recognised::new(&graph, &lowered, l, &notes));
            let layers: Vec<Recognised> = layers.collect();
            merge(&mut document, json!({"recognised": layers.iter().map(Recognised::json).collect::<Vec<_>>()}));
            show(args, &document, Some(&report))?;
            let lines = layers.iter().flat_map(Recognised::lines).collect::<Vec<_>>();
            if args.json || lines.is_empty() { Ok(()) } else { print(&lines.join("\n")) }
        }
        Err(failure) => {
            merge(&mut document, operators(&lowered, &notes));
            Err(problems(args, document, failure))
        }
    }
}

/// Shows what is known of a model that cannot be compiled, and gives its problems.
fn problems(args: &Args, mut document: Json, failure: Failure) -> Failure {
    let (Failure::Input(text) | Failure::Run(text) | Failure::Interrupted(text)) = failure;
    merge(&mut document, json!({"problems": text.lines().collect::<Vec<_>>()}));
    match show(args, &document, None) {
        Ok(()) => Failure::Input(text),
        Err(failure) => failure,
    }
}

fn show(args: &Args, document: &Json, report: Option<&ModelReport>) -> Outcome {
    if args.json {
        return print(&serde_json::to_string_pretty(document).map_err(Failure::run)?);
    }
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    for (key, what) in [("inputs", "input"), ("outputs", "output")] {
        for port in list(key) {
            print(&format!("{what} {} {} {}", text(&port["name"]), text(&port["type"]), text(&port["shape"])))?;
        }
    }
    if let Some(report) = report {
        return print(&report.table());
    }
    let keys = ["name", "operator", "kernel", "type", "shape", "macs", "bytes"];
    let used = |key: &&str| list("layers").iter().any(|l| !l[*key].is_null());
    let keys: Vec<&str> = keys.into_iter().filter(used).collect();
    let mut rows = vec![keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>()];
    rows.extend(list("layers").iter().map(|l| keys.iter().map(|k| text(&l[*k])).collect()));
    if rows.len() == 1 {
        return Ok(());
    }
    for line in columns(&rows, keys.iter().take_while(|k| !matches!(**k, "macs" | "bytes")).count()) {
        print(&line)?;
    }
    for note in list("notes") {
        print(&format!("note: {}: {}", text(&note["layer"]), text(&note["text"])))?;
    }
    Ok(())
}

fn text(value: &Json) -> String {
    match value {
        Json::String(s) => s.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn merge(document: &mut Json, more: Json) {
    if let (Json::Object(document), Json::Object(more)) = (document, more) {
        document.extend(more);
    }
}

fn of_model(model: &Model) -> Json {
    let shape = |dims: &[Option<usize>]| {
        let dims: Vec<_> = dims.iter().map(|d| d.map_or("N".to_owned(), |d| d.to_string())).collect();
        format!("[{}]", dims.join(", "))
    };
    let port =
        |p: &dorefa_runtime::model::Port| json!({"name": p.name, "type": p.dtype.name(), "shape": shape(&p.dims)});
    let layer = |l: &dorefa_runtime::model::Layer| json!({"name": l.name, "kernel": l.kernel, "macs": l.macs, "bytes": l.bytes});
    let d = model.descriptor();
    json!({
        "name": model.metadata()["name"],
        "inputs": model.inputs().iter().map(port).collect::<Vec<_>>(),
        "outputs": model.outputs().iter().map(port).collect::<Vec<_>>(),
        "levels": model.levels().iter().map(|l| l.name.clone()).collect::<Vec<_>>(),
        "numerics": if d.profile == dorefa_runtime::abi::FMA { "fma" } else { "nofma" },
        "arena_bytes": d.arena_per_sample,
        "layers": model.layers().iter().map(layer).collect::<Vec<_>>(),
        "macs": model.layers().iter().map(|l| l.macs).sum::<u64>(),
        "metadata": model.metadata()["metadata"],
    })
}

fn ports(graph: &Graph) -> Json {
    let port = |name: &str, ty: Option<&ValueType>| json!({"name": name, "type": ty.map(kind), "shape": ty.map(|t| t.shape.to_string())});
    let input = |&id: &NodeId| {
        let name = graph.node(id).map_or("", |n| n.name.as_str());
        port(name, graph.value_type(Value { node: id, port: 0 }))
    };
    json!({
        "inputs": graph.inputs().iter().map(input).collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(|(n, v)| port(n, graph.value_type(*v))).collect::<Vec<_>>(),
    })
}

/// The operators that compute on the batch, of a graph that cannot be compiled.
fn operators(graph: &Graph, notes: &Report) -> Json {
    let layer = |id: NodeId| {
        let node = graph.node(id).filter(|n| n.tensor.is_none() && !graph.inputs().contains(&id))?;
        let ty = node.types.first();
        let shape = ty.map(|t| t.shape.to_string());
        Some(json!({"name": node.name, "operator": node.op.name, "type": ty.map(kind), "shape": shape}))
    };
    json!({
        "name": graph.name,
        "layers": graph.order().into_iter().filter_map(layer).collect::<Vec<_>>(),
        "notes": notes.notes.iter().map(|n| json!({"layer": n.layer, "text": n.text})).collect::<Vec<_>>(),
    })
}
