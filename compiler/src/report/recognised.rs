//! What was recognised of each layer with weights: in which dialect the file quantises its operands, which levels were found
//! and with what scale, and why a layer stayed float. For `inspect`; it must never change what is compiled.

use super::Layer;
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem, ValueType};
use crate::graph::{Graph, NodeId, Value};
use crate::passes;
use serde_json::{Value as Json, json};

/// Operators that are followed back from a layer's operand at most.
const STEPS: usize = 64;

/// One operand of a layer: its weights or its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// How the file quantises it; what it is where it does not.
    pub source: &'static str,
    /// Bits of its codes, 32 for floats.
    pub bits: u32,
    /// Its levels, as `−3…3 step 2`; empty for floats.
    pub levels: String,
    /// The value of level 1, or least and greatest where there is one a channel; empty for floats.
    pub scale: String,
}

/// What was recognised of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognised {
    /// The layer.
    pub layer: String,
    /// Its kernel, and why that one.
    pub kernel: String,
    /// Its weights.
    pub weights: Operand,
    /// Its input.
    pub input: Operand,
    /// `exact` where the quantiser says what the codes are, `lifted` where they were found by the values.
    pub fit: Option<&'static str>,
    /// Why it stayed float, and what would help.
    pub float: Option<String>,
}

impl Recognised {
    /// What was recognised of `layer`, a step of the compiled `lowered`; `None` where it has no weights.
    pub fn new(imported: &Graph, lowered: &Graph, layer: &Layer, notes: &passes::Report) -> Option<Recognised> {
        layer.bits?;
        let own = lowered.named(&layer.node)?;
        // The passes call what they make of a layer after it, with a word behind.
        let mut source = layer.node.as_str();
        let origin = loop {
            match imported.named(source) {
                Some(id) => break Some(id),
                None => match source.rsplit_once('_') {
                    Some((shorter, _)) => source = shorter,
                    None => {
                        source = &layer.node;
                        break None;
                    }
                },
            }
        };
        let operand = |port: usize| {
            let ty = lowered.operands(own).get(port).and_then(|&v| lowered.value_type(v));
            let from = origin.and_then(|id| imported.operands(id).get(port).copied());
            operand(ty, from.map_or("", |v| dialect(imported, v)))
        };
        let (input, weights) = (operand(0), operand(1));
        let of_layer = |n: &&passes::Note| n.layer == source || n.layer == layer.node;
        let fit = notes.notes.iter().filter(of_layer).find_map(|n| match n.text.rsplit_once(", ")?.1 {
            "exact" => Some("exact"),
            "lifted" => Some("lifted"),
            _ => None,
        });
        let float = (layer.op != "int_conv").then(|| {
            let why = layer.fallback.clone().unwrap_or_else(|| "stays float".to_owned());
            format!("{why}{}", remedy(imported, lowered, origin, own, &input))
        });
        let kernel = format!("{}: {}", layer.kernel, layer.why);
        Some(Recognised { layer: source.to_owned(), kernel, weights, input, fit, float })
    }

    /// As JSON.
    pub fn json(&self) -> Json {
        let operand = |o: &Operand| json!({"source": o.source, "bits": o.bits, "levels": o.levels, "scale": o.scale});
        json!({
            "layer": self.layer,
            "kernel": self.kernel,
            "weights": operand(&self.weights),
            "input": operand(&self.input),
            "fit": self.fit,
            "float": self.float,
        })
    }

    /// As lines of text, the first naming the layer.
    pub fn lines(&self) -> Vec<String> {
        let operand = |what: &str, o: &Operand, fit: &str| match o.bits {
            32 => format!("  {what}: float ({})", o.source),
            bits => {
                let noun = if bits == 1 { "bit" } else { "bits" };
                format!("  {what}: {bits} {noun}, levels {}, scale {} ({}{fit})", o.levels, o.scale, o.source)
            }
        };
        let fit = self.fit.map_or(String::new(), |f| format!(", {f}"));
        let mut lines = vec![
            format!("layer {}: {}", self.layer, self.kernel),
            operand("weights", &self.weights, &fit),
            operand("input", &self.input, ""),
        ];
        lines.extend(self.float.iter().map(|why| format!("  {why}")));
        lines
    }
}

fn operand(ty: Option<&ValueType>, source: &'static str) -> Operand {
    let float = Operand { source, bits: 32, levels: String::new(), scale: String::new() };
    match ty.map(|t| &t.elem) {
        Some(Elem::Codes(c)) => Operand { bits: c.bits(), levels: levels(c), scale: scale(&c.scale), ..float },
        _ => float,
    }
}

fn levels(c: &CodeType) -> String {
    let (lo, hi) = c.levels();
    if c.step == 1 { format!("{lo}…{hi}") } else { format!("{lo}…{hi} step {}", c.step) }
}

fn scale(scales: &[Scale]) -> String {
    // A ratio of small numbers says more than its decimals.
    let one = |s: &Scale| {
        let text = s.to_string();
        if text.len() <= 8 { text } else { format!("{:.6}", s.to_f64()) }
    };
    let by_size = |a: &&Scale, b: &&Scale| a.to_f64().total_cmp(&b.to_f64());
    match (scales, scales.iter().min_by(by_size), scales.iter().max_by(by_size)) {
        ([only], ..) => one(only),
        (_, Some(least), Some(greatest)) => {
            format!("{} a channel, {}…{}", scales.len(), one(least), one(greatest))
        }
        _ => String::new(),
    }
}

/// In whose words the file quantises a value.
fn dialect(graph: &Graph, mut value: Value) -> &'static str {
    let (mut rounded, mut clipped, mut scaled) = (false, false, false);
    for _ in 0..STEPS {
        let Some(node) = graph.node(value.node) else { break };
        let operands = graph.operands(node.id);
        match node.op.name {
            "quantize_weights" | "quantize_activation" => return "DoReFa quantiser",
            "quant" => return "QONNX Quant",
            "bipolar_quant" => return "QONNX BipolarQuant",
            "multi_threshold" => return "FINN MultiThreshold",
            "sign" | "step" => return "sign in float steps",
            // Backwards: DequantizeLinear and Clip come before the rounding of QuantizeLinear, but after that of others.
            "round" if clipped => return "QuantizeLinear and DequantizeLinear, or their steps",
            "round" => rounded = true,
            "clip" if rounded => return "rounding in float steps",
            "clip" => clipped = true,
            "mul" | "div" | "add" | "sub" => scaled = true,
            "input" => return if rounded { "rounding in float steps" } else { "the network's input" },
            "constant" if rounded => return "rounding in float steps",
            "constant" if scaled => return "integers times a scale, as DequantizeLinear",
            "constant" => return "constant values",
            "max_pool" | "reshape" | "transpose" | "relu" | "min" | "max" | "abs" | "tanh" => {}
            _ if rounded => return "rounding in float steps",
            _ => return "computed in float",
        }
        // Parameters are constants; what is quantised is not, or stands first.
        let next = operands.iter().find(|&&v| graph.constant(v).is_none()).or(operands.first());
        let Some(&next) = next else { break };
        value = next;
    }
    "computed in float"
}

/// What would make a float layer an integer one.
fn remedy(imported: &Graph, lowered: &Graph, origin: Option<NodeId>, own: NodeId, input: &Operand) -> String {
    if input.source == "the network's input" {
        return "; it reads the network's input: where that is pixels, --input u8,scale=1/255".to_owned();
    }
    let reads = |graph: &Graph, id: NodeId| {
        let first = *graph.operands(id).first()?;
        graph.node(first.node).map(|n| (n.op.name, n.name.clone()))
    };
    match (reads(lowered, own), origin.and_then(|id| reads(imported, id))) {
        // Codes come in: the weights are what is not.
        (Some(("decode", _)), _) => {
            let weights = lowered.operands(own).get(1).and_then(|&v| lowered.constant(v)).and_then(|t| t.as_f32());
            let few = |w: &[f32]| w.iter().map(|v| v.to_bits()).collect::<std::collections::BTreeSet<_>>().len();
            let most = weights.map_or(0, |w| few(w.get(..4096).unwrap_or(w)));
            format!("; among its first weights are {most} different values: train it with quantised weights")
        }
        (_, Some((op, name))) => format!("; its input is `{name}` ({op}): quantise that to at most 8 bits"),
        _ => String::new(),
    }
}
