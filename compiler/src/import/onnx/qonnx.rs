//! The QONNX and Brevitas dialects: Quant, IntQuant, BipolarQuant, Trunc.

use super::arguments::{int, string};
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::quant_bounds;

/// Imports the node if it is one of this dialect.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Quant" | "IntQuant" => quant(im, node)?,
        "BipolarQuant" => {
            let (x, s) = (im.input(node, 0)?, im.input(node, 1)?);
            im.add("bipolar_quant", node, &[x, s])?
        }
        "Trunc" => trunc(im, node)?,
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

/// A rounding mode of the dialect by its name in the graph.
fn mode(node: &OnnxNode, default: &str) -> Result<String, Fail> {
    let word = string(node, "rounding_mode", default)?.to_ascii_uppercase();
    Ok(match word.as_str() {
        "ROUND" | "HALF_EVEN" | "ROUND_TO_EVEN" => "half_even",
        "CEIL" => "ceil",
        "FLOOR" => "floor",
        "UP" => "up",
        "DOWN" | "ROUND_TO_ZERO" => "down",
        "HALF_UP" => "half_up",
        "HALF_DOWN" => "half_down",
        _ => return Err(format!("has the rounding mode `{word}`, which QONNX does not define").into()),
    }
    .to_owned())
}

/// A constant number of bits.
fn bits(im: &mut Importer<'_>, node: &OnnxNode, i: usize) -> Result<i64, Fail> {
    let bits = im.scalar_input(node, i)?.ok_or("has no bit width")?;
    if bits.fract() == 0.0 && (1.0..=24.0).contains(&bits) {
        Ok(bits as i64)
    } else {
        Err(format!("has {bits} bits: a whole number from 1 to 24 is supported").into())
    }
}

fn quant(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let bits = bits(im, node, 3)?;
    let (signed, narrow) = (int(node, "signed", 1)? != 0, int(node, "narrow", 0)? != 0);
    let mode = mode(node, "ROUND")?;
    let (x, s) = (im.input(node, 0)?, im.input(node, 1)?);
    let z = im.input(node, 2)?;
    if bits == 1 && signed {
        return binary(im, node, [x, s, z]);
    }
    let attrs = Attrs::new()
        .with("bits", Attr::Int(bits))
        .with("signed", Attr::Bool(signed))
        .with("narrow", Attr::Bool(narrow))
        .with("mode", Attr::Word(mode));
    im.add_with("quant", node, &[x, s, z], attrs)
}

/// Signed quantisers of one bit mean ±1 in this dialect, narrow or not (QKeras writes its binary quantiser so, and QONNX
/// computes it so): ((x/s + z ≥ 0 ? 1 : −1) − z)·s.
fn binary(im: &mut Importer<'_>, node: &OnnxNode, [x, s, z]: [Value; 3]) -> Result<Value, Fail> {
    let zeros = im.graph.constant(z).and_then(|t| t.as_f32()).is_some_and(|v| v.iter().all(|&z| z == 0.0));
    if zeros {
        return im.add("bipolar_quant", node, &[x, s]);
    }
    let mut y = im.elementwise("div", node, &[x, s], Attrs::new())?;
    y = im.elementwise("add", node, &[y, z], Attrs::new())?;
    y = im.add("step", node, &[y])?;
    y = im.elementwise("sub", node, &[y, z], Attrs::new())?;
    im.elementwise("mul", node, &[y, s], Attrs::new())
}

/// In the primitive steps of its definition. Version 1 has five inputs: round(x/s + z) / 2^(in − out), rounded, (− z)·s.
/// Version 2 gives the result's scale as its fifth input, from which the power of two follows, and saturates.
fn trunc(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let second = node.inputs.len() > 5;
    let (from, to) = (bits(im, node, 3)?, bits(im, node, node.inputs.len().saturating_sub(1))?);
    if to > from {
        return Err(format!("truncates {from} bits to {to}").into());
    }
    let rounded = Attrs::new().with("mode", Attr::Word(mode(node, "FLOOR")?));
    let (x, mut s, mut z) = (im.input(node, 0)?, im.input(node, 1)?, im.input(node, 2)?);
    let mut y = im.elementwise("div", node, &[x, s], Attrs::new())?;
    y = im.elementwise("add", node, &[y, z], Attrs::new())?;
    y = im.add("round", node, &[y])?;
    let mut divisor = (1u64 << (from - to)) as f32;
    if second {
        let (Some(input), Some(output)) = (im.scalar_input(node, 1)?, im.scalar_input(node, 4)?) else {
            return Err("needs one scale for its input and one for its output".into());
        };
        let power = (output / input).log2().round_ties_even();
        if !(-64.0..=64.0).contains(&power) {
            return Err(format!("truncates from the scale {input} to {output}").into());
        }
        divisor = f32::powi(2.0, power as i32);
    }
    let by = im.scalar("trunc_divisor", divisor)?;
    y = im.elementwise("div", node, &[y, by], Attrs::new())?;
    if second {
        let (lo, hi) = quant_bounds(to, int(node, "signed", 1)? != 0, int(node, "narrow", 0)? != 0);
        let bounds = Attrs::new().with("lo", Attr::Float(lo)).with("hi", Attr::Float(hi));
        y = im.add_with("clip", node, &[y], bounds)?;
        z = im.elementwise("div", node, &[z, by], Attrs::new())?;
        s = im.input(node, 4)?;
    }
    y = im.add_with("round", node, &[y], rounded)?;
    y = im.elementwise("sub", node, &[y, z], Attrs::new())?;
    im.elementwise("mul", node, &[y, s], Attrs::new())
}
