//! What no node may do, whatever its operator: checked before and after its family imports it.
//!
//! A scale that is not finite, or zero where it divides, makes every value NaN; a negative variance likewise: the file is
//! broken, and saying so beats computing NaN. Shape arithmetic is bounded, so that a few nodes cannot double a list for ever.

use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;

/// Most numbers in a list of shape arithmetic: shapes have at most eight.
const NUMBERS: usize = 1 << 12;

/// Checks the parameters of a node that must be sound numbers.
pub(super) fn before(im: &mut Importer<'_>, node: &OnnxNode) -> Result<(), Fail> {
    match node.op_type.as_str() {
        "Quant" | "IntQuant" | "Trunc" | "QuantizeLinear" => {
            parameter(im, node, 1, |s| s.is_finite() && s != 0.0, "a scale must be finite and not 0")
        }
        "BipolarQuant" | "DequantizeLinear" => parameter(im, node, 1, f32::is_finite, "a scale must be finite"),
        "BatchNormalization" => parameter(im, node, 4, |v| v >= 0.0, "a variance must be at least 0"),
        _ => Ok(()),
    }
}

/// Checks what a node became.
pub(super) fn after(known: Known) -> Result<Known, Fail> {
    match &known {
        Known::Ints(list, _) if list.len() > NUMBERS => {
            Err(format!("makes a shape of {} numbers, more than {NUMBERS}: no tensor has so many axes", list.len())
                .into())
        }
        _ => Ok(known),
    }
}

/// Checks every number of a constant input.
fn parameter(
    im: &mut Importer<'_>,
    node: &OnnxNode,
    i: usize,
    sound: impl Fn(f32) -> bool,
    rule: &str,
) -> Result<(), Fail> {
    let Some(name) = im.input_name(node, i) else { return Ok(()) };
    let tensor = match im.known(name)? {
        Known::Tensor(tensor) => Some(tensor),
        Known::Value(value) => im.graph.constant(value).cloned(),
        _ => None,
    };
    let numbers = tensor.as_ref().and_then(|t| t.as_f32()).unwrap_or(&[]);
    match numbers.iter().position(|&v| !sound(v)) {
        Some(at) => {
            let found = numbers.get(at).copied().unwrap_or(0.0);
            Err(format!("element {at} of `{name}` is {found}: {rule}; export the model from a sound checkpoint").into())
        }
        None => Ok(()),
    }
}
