//! From a graph to its text. One node a line in topological order; a constant stands at its first reader, with its type.

use super::lexer::{write_name, write_text};
use super::types::{write_layouts, write_scales, write_type};
use crate::graph::attrs::Attr;
use crate::graph::ops;
use crate::graph::{Graph, Node, Value};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The text of a graph, without its weights. The parser reads it back as the same graph.
pub fn print(graph: &Graph) -> String {
    let mut out = String::from("dorefa 1\n");
    for (key, text) in &graph.metadata {
        let _ = writeln!(out, "meta {} = {}", write_name(key), write_text(text));
    }
    let inputs: Vec<_> = graph.inputs().iter().filter_map(|&id| graph.node(id)).map(input).collect();
    let outputs: Vec<_> = graph.outputs().iter().map(|(name, v)| output(graph, name, *v)).collect();
    let name = write_name(&graph.name);
    let _ = writeln!(out, "graph {name}({}) -> ({}) {{", inputs.join(", "), outputs.join(", "));
    let mut written = BTreeSet::new();
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        if *node.op == ops::INPUT {
            continue;
        }
        let value = Value { node: id, port: 0 };
        if *node.op == ops::CONSTANT {
            if graph.users(value).is_empty() {
                let _ = writeln!(out, "  {}", operand(graph, value, &mut written));
            }
            continue;
        }
        let mut arguments: Vec<_> = graph.operands(id).into_iter().map(|v| operand(graph, v, &mut written)).collect();
        arguments.extend(node.attrs.0.iter().map(|(name, value)| format!("{name}={}", attr(value))));
        let layouts: Vec<_> = node.types.iter().map(|t| t.layout).collect();
        let (name, layouts) = (write_name(&node.name), write_layouts(&layouts));
        let _ = writeln!(out, "  {name} = {}({}){layouts}", node.op.name, arguments.join(", "));
    }
    for update in graph.updates() {
        let value = operand(graph, update.value, &mut written);
        let target = operand(graph, Value { node: update.node, port: 0 }, &mut written);
        let _ = writeln!(out, "  update {} {target} = {value}", update.role.word());
    }
    out.push_str("}\n");
    out
}

fn input(node: &Node) -> String {
    format!("{}: {}", write_name(&node.name), node.types.first().map(write_type).unwrap_or_default())
}

fn output(graph: &Graph, name: &str, value: Value) -> String {
    let node = graph.node(value.node);
    let is_constant = node.is_some_and(|n| *n.op == ops::CONSTANT);
    if value.port == 0 && !is_constant && node.is_some_and(|n| n.name == name) {
        return write_name(name);
    }
    // All constants are declared in the body.
    let mut written = BTreeSet::from([value.node]);
    format!("{} = {}", write_name(name), operand(graph, value, &mut written))
}

fn operand(graph: &Graph, value: Value, written: &mut BTreeSet<crate::graph::NodeId>) -> String {
    let Some(node) = graph.node(value.node) else {
        return "\"\"".to_owned();
    };
    let name = write_name(&node.name);
    if *node.op != ops::CONSTANT {
        return if value.port == 0 { name } else { format!("{name}!{}", value.port) };
    }
    match node.types.first() {
        Some(ty) if written.insert(value.node) => format!("@{name}: {}", write_type(ty)),
        _ => format!("@{name}"),
    }
}

fn attr(value: &Attr) -> String {
    match value {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) if v.is_nan() => "nan".to_owned(),
        Attr::Float(v) => format!("{v:?}"),
        Attr::Bool(v) => v.to_string(),
        Attr::Word(v) => write_name(v),
        Attr::Ints(v) => format!("[{}]", v.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
        Attr::Scales(v) => write_scales(v),
    }
}
