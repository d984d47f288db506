//! `--emit STAGE[=PATH]`: what the compiler holds at a stage, as text.
//!
//! `graph` is the model as imported; each pass gives a stage of its own name; `lifted` is after the pass `lift`, `fused`
//! after the last; `lowered` is the plan; `clif`, `asm` and `dot` show the code and the picture of the final graph.

use super::Failure;
use crate::codegen::image::Image;
use crate::compile::Compiled;
use crate::graph::types::{Shape, ValueType};
use crate::graph::{Graph, NodeId, Value, attrs::Attrs, ops};
use crate::{passes, report, text};
use std::fmt::Write;
use std::path::PathBuf;

/// Stages that are no pass's name.
const OTHERS: [&str; 7] = ["graph", "lifted", "fused", "lowered", "clif", "asm", "dot"];

/// Requests, checked.
pub struct Emit {
    requests: Vec<(String, Option<PathBuf>)>,
    texts: Vec<(String, String)>,
}

impl Emit {
    /// Parses and checks the arguments.
    ///
    /// # Errors
    /// When a stage does not exist; the message lists those there are.
    pub fn parse(arguments: &[String]) -> Result<Emit, Failure> {
        let names = names();
        let (mut requests, mut problems) = (Vec::new(), Vec::new());
        for argument in arguments {
            let (stage, path) = argument.split_once('=').map_or((argument.as_str(), None), |(s, p)| (s, Some(p)));
            if !names.iter().any(|n| n == stage) {
                problems.push(format!("--emit {stage}: there is no such stage; there are {}", names.join(", ")));
            } else if path == Some("") {
                problems.push(format!("--emit {argument}: the path is empty; leave = out for standard output"));
            }
            requests.push((stage.to_owned(), path.map(PathBuf::from)));
        }
        if problems.is_empty() {
            Ok(Emit { requests, texts: Vec::new() })
        } else {
            Err(Failure::Input(problems.join("\n")))
        }
    }

    /// The files that will be written.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.requests.iter().filter_map(|(_, path)| path.as_ref())
    }

    /// Whether the code's text is wanted.
    pub fn wants_code(&self) -> bool {
        self.wants("clif") || self.wants("asm")
    }

    fn wants(&self, stage: &str) -> bool {
        self.requests.iter().any(|(s, _)| s == stage)
    }

    fn keep(&mut self, stage: &str, text: impl FnOnce() -> String) {
        if self.wants(stage) {
            self.texts.push((stage.to_owned(), text()));
        }
    }

    /// Sees the graph as imported, or after a pass.
    pub fn graph(&mut self, stage: &str, graph: &Graph) {
        self.keep(stage, || text::print(graph));
        match stage {
            "lift" => self.keep("lifted", || text::print(graph)),
            "final" => self.keep("fused", || text::print(graph)),
            _ => {}
        }
    }

    /// Sees the compiled model.
    pub fn compiled(&mut self, graph: &Graph, compiled: &Compiled) {
        self.keep("dot", || dot(graph, compiled));
        self.image(&compiled.image, || plan(graph, compiled));
    }

    /// Sees the plan and the code of an image.
    pub fn image(&mut self, image: &Image, plan: impl FnOnce() -> String) {
        self.keep("lowered", plan);
        let code = |pick: fn(&crate::codegen::image::Code) -> &Option<String>| {
            let functions = image.functions.iter();
            let texts = functions.filter_map(|f| Some(format!("; {}\n{}", f.name, pick(f.code.as_ref()?).as_ref()?)));
            texts.collect::<Vec<_>>().join("\n")
        };
        self.keep("clif", || code(|c| &c.clif));
        self.keep("asm", || code(|c| &c.asm));
    }

    /// The requests in order with their texts.
    pub fn finished(&self) -> impl Iterator<Item = (Option<&PathBuf>, &str)> {
        self.requests.iter().map(|(stage, path)| {
            let text = self.texts.iter().rfind(|(s, _)| s == stage).map_or("", |(_, t)| t.as_str());
            (path.as_ref(), text)
        })
    }
}

/// All stages: the passes' names are those that a run over the smallest graph reports.
fn names() -> Vec<String> {
    let mut graph = Graph::new("smallest");
    let x = graph.add_input("x", ValueType::f32(Shape::batched(&[1])));
    if let Ok(y) = graph.add(ops::known("relu"), "y", &[x], Attrs::new()) {
        graph.add_output("y", y);
    }
    let mut names: Vec<String> = OTHERS.map(str::to_owned).to_vec();
    let found = passes::run(&mut graph, true, &mut |name, _| names.push(name.to_owned()));
    debug_assert!(found.is_ok(), "{found:?}");
    names
}

fn name(graph: &Graph, id: NodeId) -> String {
    graph.node(id).map_or(String::new(), |n| n.name.clone())
}

fn described(graph: &Graph, id: NodeId) -> String {
    let op = graph.node(id).map_or("", |n| n.op.name);
    let operands: Vec<_> = graph.operands(id).iter().map(|v| name(graph, v.node)).collect();
    format!("{} = {op}({})", name(graph, id), operands.join(", "))
}

/// The plan: steps with their kernels and chains, and every value in memory.
fn plan(graph: &Graph, compiled: &Compiled) -> String {
    let plan = &compiled.plan;
    let mut out = format!("plan {}: {} steps, arena {} bytes a sample\n", graph.name, plan.steps.len(), plan.arena);
    let memory = |v: &Value| {
        let ty = graph.value_type(*v).map_or(String::new(), |t| format!("{} {}", report::kind(t), t.shape));
        let buffer = plan.buffers.get(v);
        let at = buffer.map_or(String::new(), |b| {
            let planes =
                if b.planes > 0 { format!(", {} planes, groups of {}", b.planes, b.group) } else { String::new() };
            format!("{} at {}, {} bytes{planes}", report::layout_name(b), report::place(b), b.bytes())
        });
        format!("{ty} {at}")
    };
    for &id in graph.inputs() {
        let _ = writeln!(out, "\ninput {}: {}", name(graph, id), memory(&Value { node: id, port: 0 })); // a String takes all
    }
    for (i, step) in plan.steps.iter().enumerate() {
        let kernel = compiled.kernels.get(i).copied().unwrap_or_default();
        let _ = writeln!(out, "\nstep {i} {}: {kernel}, {} tasks", name(graph, step.result.node), step.tasks);
        if let Some(id) = step.main {
            let _ = writeln!(out, "  kernel {}", described(graph, id));
        }
        for &id in &step.chain {
            let _ = writeln!(out, "  chain  {}", described(graph, id));
        }
        if let Some(id) = step.pool {
            let _ = writeln!(out, "  makes  {}", memory(&step.made));
            let _ = writeln!(out, "  pool   {}", described(graph, id));
        }
        let _ = writeln!(out, "  stores {}", memory(&step.result));
    }
    out
}

/// The graph as Graphviz, a cluster a step.
fn dot(graph: &Graph, compiled: &Compiled) -> String {
    let quote = |t: &str| t.replace('\\', "\\\\").replace('"', "\\\"");
    let node = |id: NodeId| {
        let Some(n) = graph.node(id) else { return String::new() };
        let ty = n.types.first().map_or(String::new(), |t| format!("{} {}", report::kind(t), t.shape));
        format!("n{} [label=\"{}\\n{}\\n{}\"];", id.0, quote(&n.name), n.op.name, quote(&ty))
    };
    let mut out = format!("digraph \"{}\" {{\n  node [shape=box];\n", quote(&graph.name));
    let mut inside = std::collections::BTreeSet::new();
    for (i, step) in compiled.plan.steps.iter().enumerate() {
        let kernel = compiled.kernels.get(i).copied().unwrap_or_default();
        let _ = writeln!(out, "  subgraph cluster_{i} {{ label=\"step {i}: {}\";", quote(kernel));
        for id in step.nodes() {
            inside.insert(id);
            let _ = writeln!(out, "    {}", node(id));
        }
        out.push_str("  }\n");
    }
    for id in graph.order() {
        let constant = graph.node(id).is_some_and(|n| n.tensor.is_some());
        if !constant && !inside.contains(&id) {
            let _ = writeln!(out, "  {}", node(id));
        }
        for v in graph.operands(id).iter().filter(|v| graph.constant(**v).is_none()) {
            let _ = writeln!(out, "  n{} -> n{};", v.node.0, id.0);
        }
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_checked_before_anything_is_done() {
        let known = Emit::parse(&["graph".to_owned(), "lift=/tmp/x".to_owned(), "asm".to_owned()]);
        assert!(known.is_ok_and(|e| e.wants_code() && e.paths().count() == 1));
        match Emit::parse(&["nonsense=x".to_owned(), "graph=".to_owned()]) {
            Err(Failure::Input(text)) => assert!(text.contains("threshold, ") && text.lines().count() == 2, "{text}"),
            _ => panic!("accepted"),
        }
    }
}
