//! What the compiler made of a model: one entry a step, for `--report`, `inspect` and the tables on standard output.
//!
//! The cycles are an estimate, good to about a factor of two on one core; `bench --layers` measures, `bench --kernels` compares.

mod recognised;

pub use recognised::Recognised;

use crate::codegen::kernels::choice::Candidate;
use crate::compile::{Choice, Compiled};
use crate::graph::types::{Elem, Layout, ValueType};
use crate::graph::{Graph, Value};
use crate::lower::{Buffer, Place, Step};
use crate::{compile, passes};
use serde_json::{Value as Json, json};

/// One step of a compiled model.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The step's name, as in the descriptor: that of the value it stores.
    pub name: String,
    /// The node whose kernel runs, and its operator; of a pure element-wise step its first node.
    pub node: String,
    /// Its operator.
    pub op: &'static str,
    /// Nodes of the chain that follows, in order.
    pub chain: Vec<String>,
    /// The kernel.
    pub kernel: String,
    /// Why this kernel.
    pub why: String,
    /// The kernels that can compute the layer with the layouts it has, with their predicted cycles a sample, the cheapest
    /// first; empty where the operator has one kernel.
    pub candidates: Vec<(&'static str, u64)>,
    /// Why the layer computes in float, if it does and could have been codes.
    pub fallback: Option<String>,
    /// Bits of weights and activations, 32 for float; `None` where it has no weights.
    pub bits: Option<(u32, u32)>,
    /// Multiply-accumulates a sample.
    pub macs: u64,
    /// Bytes of the constants that it reads, packed to their bits.
    pub weight_bytes: u64,
    /// Bytes a sample of the stored result.
    pub bytes: u64,
    /// Layouts of the values in memory that it reads.
    pub reads: Vec<&'static str>,
    /// Type of the result.
    pub result: String,
    /// Shape of the result.
    pub shape: String,
    /// Layout of the result.
    pub layout: &'static str,
    /// Where the result lies: `arena+OFFSET` or `output I`.
    pub place: String,
    /// Tasks a sample.
    pub tasks: usize,
    /// Estimated cycles a sample.
    pub cycles: u64,
}

/// A compiled model's report.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelReport {
    /// The model's name.
    pub name: String,
    /// CPU levels.
    pub levels: Vec<String>,
    /// The numeric profile: `fma` or `nofma`.
    pub numerics: &'static str,
    /// One entry a step.
    pub layers: Vec<Layer>,
    /// Bytes of the arena a sample.
    pub arena: u64,
    /// Bytes of all read-only data: packed weights, tables, names.
    pub data: u64,
    /// Bytes of code.
    pub code: u64,
    /// Notes of the passes: layer and text.
    pub notes: Vec<(String, String)>,
}

/// Estimated cycles of a step without weights on one sample: those of its chain, two and one a node for four elements. Memory is
/// taken to be fast enough. What layers with weights cost their kernels say (`codegen::kernels`).
fn cycles(elements: u64, chain: usize) -> u64 {
    (elements as f64 * (2 + chain) as f64 / 4.0).ceil() as u64
}

impl ModelReport {
    /// The report of a compiled graph.
    pub fn new(graph: &Graph, compiled: &Compiled, levels: &[String], notes: &passes::Report) -> ModelReport {
        let steps = compiled.plan.steps.iter().zip(&compiled.kernels).zip(&compiled.choices);
        let image = &compiled.image;
        ModelReport {
            name: graph.name.clone(),
            levels: levels.to_vec(),
            numerics: if compiled.fma { "fma" } else { "nofma" },
            layers: steps
                .map(|((step, kernel), c)| layer(graph, compiled, (step, kernel, c.as_ref()), notes))
                .collect(),
            arena: compiled.plan.arena,
            data: image.data.iter().map(|d| d.bytes.len() as u64).sum(),
            code: image.functions.iter().filter_map(|f| f.code.as_ref()).map(|c| c.bytes.len() as u64).sum(),
            notes: notes.notes.iter().map(|n| (n.layer.clone(), n.text.clone())).collect(),
        }
    }

    /// Multiply-accumulates a sample.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|l| l.macs).sum()
    }

    /// Estimated cycles a sample.
    pub fn cycles(&self) -> u64 {
        self.layers.iter().map(|l| l.cycles).sum()
    }

    /// The report as a JSON document.
    pub fn json(&self) -> Json {
        json!({
            "name": self.name,
            "levels": self.levels,
            "numerics": self.numerics,
            "macs": self.macs(),
            "estimated_cycles": self.cycles(),
            "arena_bytes": self.arena,
            "data_bytes": self.data,
            "code_bytes": self.code,
            "weight_bytes": self.layers.iter().map(|l| l.weight_bytes).sum::<u64>(),
            "fallbacks": self.layers.iter().filter(|l| l.fallback.is_some()).count(),
            "layers": self.layers.iter().map(Layer::json).collect::<Vec<_>>(),
            "notes": self.notes.iter().map(|(l, t)| json!({"layer": l, "text": t})).collect::<Vec<_>>(),
        })
    }

    /// The report as a table.
    pub fn table(&self) -> String {
        let head = ["layer", "kernel", "W×A", "result", "MACs", "weights B", "result B", "est. cycles"];
        let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.layers.iter().map(|l| {
            let bits = l.bits.map_or(String::new(), |(w, a)| format!("{w}×{a}"));
            let numbers = [l.macs, l.weight_bytes, l.bytes, l.cycles].map(|n| n.to_string());
            let texts = vec![l.node.clone(), l.kernel.clone(), bits, format!("{} {} {}", l.result, l.shape, l.layout)];
            [texts, numbers.to_vec()].concat()
        }));
        let mut lines = columns(&rows, 4);
        lines.push(format!(
            "{} steps, {} MACs an image, arena {} B an image, constants {} B, code {} B, about {} cycles",
            self.layers.len(),
            self.macs(),
            self.arena,
            self.data,
            self.code,
            self.cycles()
        ));
        lines.extend(self.layers.iter().filter_map(Layer::runners_up));
        lines.extend(self.notes.iter().map(|(layer, text)| format!("note: {layer}: {text}")));
        lines.join("\n")
    }
}

/// Rows as aligned columns, those from `numbers` on to the right.
pub fn columns(rows: &[Vec<String>], numbers: usize) -> Vec<String> {
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, &w))| if i < numbers { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

impl Layer {
    /// Why the kernel, and what else could compute the layer, as a line; `None` where nothing else can.
    fn runners_up(&self) -> Option<String> {
        let others = self.candidates.iter().filter(|c| c.0 != self.kernel);
        let others: Vec<String> = others.map(|(name, cycles)| format!("{name} ({cycles})")).collect();
        let text = format!("kernel of {}: {} ({}), {}", self.node, self.kernel, self.cycles, self.why);
        (!others.is_empty()).then(|| format!("{text}; others: {}", others.join(", ")))
    }

    fn json(&self) -> Json {
        json!({
            "name": self.name,
            "node": self.node,
            "operator": self.op,
            "chain": self.chain,
            "kernel": self.kernel,
            "why": self.why,
            "candidates": self.candidates.iter().map(|(k, c)| json!({"kernel": k, "estimated_cycles": c})).collect::<Vec<_>>(),
            "fallback": self.fallback,
            "weight_bits": self.bits.map(|b| b.0),
            "activation_bits": self.bits.map(|b| b.1),
            "macs": self.macs,
            "weight_bytes": self.weight_bytes,
            "bytes": self.bytes,
            "reads": self.reads,
            "type": self.result,
            "shape": self.shape,
            "layout": self.layout,
            "place": self.place,
            "tasks": self.tasks,
            "estimated_cycles": self.cycles,
        })
    }
}

fn layer(
    graph: &Graph,
    compiled: &Compiled,
    (step, kernel, choice): (&Step, &str, Option<&Choice>),
    notes: &passes::Report,
) -> Layer {
    let first = step.main.or(step.chain.first().copied()).unwrap_or(step.result.node);
    let name = |id| graph.node(id).map_or(String::new(), |n| n.name.clone());
    let op = graph.node(first).map_or("", |n| n.op.name);
    let nodes = || step.nodes();
    let operands: Vec<Value> = nodes().flat_map(|id| graph.operands(id)).collect();
    let constant_bits = |v: &Value| Some(stored_bits(graph.value_type(*v)?) * graph.constant(*v)?.len() as u64);
    let read = operands.iter().filter_map(|v| compiled.plan.buffers.get(v));
    let buffer = compiled.plan.buffers.get(&step.result);
    let ty = graph.value_type(step.result);
    let bits = step.main.and_then(|id| weight_bits(graph, id));
    let macs = compile::macs(graph, step);
    let elements = ty.and_then(|t| t.shape.sample_len()).unwrap_or(0) as u64;
    let chain = step.chain.len() - usize::from(step.main.is_none() && !step.chain.is_empty());
    let node = name(first);
    let rounded = |c: &Candidate| (c.kernel.name(), c.cycles.ceil() as u64);
    let candidates: Vec<_> = choice.map_or_else(Vec::new, |c| c.candidates.iter().map(rounded).collect());
    let own = candidates.iter().find(|c| c.0 == kernel).copied();
    let note = notes.notes.iter().find(|n| n.layer == node && n.text.starts_with("stays float"));
    Layer {
        name: name(step.result.node),
        op,
        chain: nodes().skip(1).map(name).collect(),
        kernel: kernel.to_owned(),
        why: choice.map_or("the only kernel of this operator", |c| c.reason.text()).to_owned(),
        candidates: candidates.clone(),
        fallback: note.map(|n| n.text.clone()),
        node,
        bits,
        macs,
        weight_bytes: operands.iter().filter_map(constant_bits).sum::<u64>().div_ceil(8),
        bytes: buffer.map_or(0, |b| b.bytes() as u64),
        reads: read.map(layout_name).collect(),
        result: ty.map_or(String::new(), kind),
        shape: ty.map_or(String::new(), |t| t.shape.to_string()),
        layout: buffer.map_or("", layout_name),
        place: buffer.map_or(String::new(), place),
        tasks: step.tasks,
        cycles: own.map_or_else(|| cycles(elements, chain), |c| c.1),
    }
}

fn weight_bits(graph: &Graph, id: crate::graph::NodeId) -> Option<(u32, u32)> {
    let node = graph.node(id).filter(|n| matches!(n.op.name, "conv" | "matmul" | "int_conv"))?;
    let operands = graph.operands(node.id);
    let bits = |i: usize| Some(graph.value_type(*operands.get(i)?)?.codes().map_or(32, |c| c.bits()));
    Some((bits(1)?, bits(0)?))
}

/// A buffer's layout as a word.
pub fn layout_name(buffer: &Buffer) -> &'static str {
    match buffer.layout {
        Layout::Dense => "dense",
        Layout::Nhwc => "nhwc",
        Layout::Nibbles => "nibbles",
        Layout::Bits => "bits",
    }
}

/// Where a buffer lies.
pub fn place(buffer: &Buffer) -> String {
    match buffer.place {
        Place::Input(i) => format!("input {i}"),
        Place::Output(i) => format!("output {i}"),
        Place::Arena(offset) => format!("arena+{offset}"),
        Place::Worker(offset) => format!("scratch+{offset}"),
    }
}

/// A value's element: `f32`, `u2` for codes of two bits, `lo…hi` for an accumulator.
pub fn kind(ty: &ValueType) -> String {
    match &ty.elem {
        Elem::F32 => "f32".to_owned(),
        Elem::Codes(c) => format!("u{}", c.bits()),
        Elem::Acc(a) => format!("{}…{}", a.lo, a.hi),
    }
}

/// Bits that a constant of this type takes for each element when stored.
pub fn stored_bits(ty: &ValueType) -> u64 {
    match &ty.elem {
        Elem::F32 | Elem::Acc(_) => 32,
        Elem::Codes(c) => c.bits().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "9".to_owned()]];
        assert_eq!(columns(&rows, 1), ["a    10", "bcd   9"]);
    }
}
