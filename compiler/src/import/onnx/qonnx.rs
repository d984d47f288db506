//! The QONNX and Brevitas dialects: Quant, IntQuant, BipolarQuant, Trunc.

use super::context::{Fail, Importer, Known, int, string};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};

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
    if bits == 1 && signed && narrow {
        // QKeras writes its binary quantiser so; it means ±1, not a single level.
        return im.add("bipolar_quant", node, &[x, s]);
    }
    let z = im.input(node, 2)?;
    let attrs = Attrs::new()
        .with("bits", Attr::Int(bits))
        .with("signed", Attr::Bool(signed))
        .with("narrow", Attr::Bool(narrow))
        .with("mode", Attr::Word(mode));
    im.add_with("quant", node, &[x, s, z], attrs)
}

/// Version 1, in the primitive steps of its definition: round(x/s + z) / 2^(in − out), rounded, (− z)·s.
fn trunc(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    if node.inputs.len() != 5 {
        return Err("is version 2: only version 1 with five inputs is supported, export with an older QONNX".into());
    }
    let (from, to) = (bits(im, node, 3)?, bits(im, node, 4)?);
    if to > from {
        return Err(format!("truncates {from} bits to {to}").into());
    }
    let mode = mode(node, "FLOOR")?;
    let (x, s, z) = (im.input(node, 0)?, im.input(node, 1)?, im.input(node, 2)?);
    let mut y = im.add("div", node, &[x, s])?;
    y = im.add("add", node, &[y, z])?;
    y = im.add("round", node, &[y])?;
    let divisor = im.scalar("trunc_divisor", (1u64 << (from - to)) as f32)?;
    y = im.add("div", node, &[y, divisor])?;
    y = im.add_with("round", node, &[y], Attrs::new().with("mode", Attr::Word(mode)))?;
    y = im.add("sub", node, &[y, z])?;
    im.add("mul", node, &[y, s])
}
