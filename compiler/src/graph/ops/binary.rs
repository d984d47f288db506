//! Element-wise operators of two inputs with the broadcasting of ONNX.

use super::activation::pow;
use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::Attrs;
use crate::graph::types::{Dim, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

fn infer(_: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    Ok(vec![ValueType::f32(broadcast_shape(&f32_input(types, 0)?.shape, &f32_input(types, 1)?.shape)?)])
}

/// The shape to which two shapes broadcast.
pub(super) fn broadcast_shape(a: &Shape, b: &Shape) -> Result<Shape, String> {
    let rank = a.rank().max(b.rank());
    let at = |s: &Shape, i: usize| {
        (i + s.rank()).checked_sub(rank).and_then(|i| s.0.get(i).copied()).unwrap_or(Dim::Fixed(1))
    };
    let dims = (0..rank).map(|i| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Ok(x),
        (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => Ok(d),
        _ => Err(format!("shapes {a} and {b} do not broadcast")),
    });
    Ok(Shape(dims.collect::<Result<_, _>>()?))
}

/// Reads `tensor` at the index of each element of a tensor of `shape`, broadcast.
pub(super) fn broadcast<'a>(tensor: &'a Tensor, data: &'a [f32], shape: &[usize]) -> impl Fn(usize) -> f32 + 'a {
    // (elements inside, extent in the output, stride in the tensor), none where the tensor has extent 1: the index of a scalar
    // takes no division.
    let mut strides = Vec::new();
    let (mut inner, mut stride) = (1usize, 1usize);
    for (i, &extent) in shape.iter().rev().enumerate() {
        let own = tensor.shape().iter().rev().nth(i).copied().unwrap_or(1);
        if own != 1 {
            strides.push((inner, extent.max(1), stride));
        }
        inner *= extent.max(1);
        stride *= own;
    }
    let same = tensor.shape() == shape;
    move |i| {
        let at = if same { i } else { strides.iter().map(|&(inner, extent, s)| i / inner % extent * s).sum() };
        data.get(at).copied().unwrap_or(f32::NAN)
    }
}

pub(super) fn zip(e: &Eval<'_>, f: impl Fn(f32, f32) -> f32) -> Result<Tensor, String> {
    let shape = e.shape();
    let (a, b) = (broadcast(e.input(0)?, e.f32(0)?, &shape), broadcast(e.input(1)?, e.f32(1)?, &shape));
    e.floats((0..shape.iter().product()).map(|i| f(a(i), b(i))).collect())
}

pub(super) const fn binary(
    name: &'static str,
    doc: &'static str,
    eval: fn(&Eval<'_>) -> Result<Tensor, String>,
) -> OpDef {
    OpDef { name, doc, inputs: (2, 2), attrs: &[], elementwise: true, infer, eval }
}

/// a + b
pub static ADD: OpDef = binary("add", "a + b, broadcast.", |e| zip(e, |a, b| a + b));
/// a − b
pub static SUB: OpDef = binary("sub", "a − b, broadcast.", |e| zip(e, |a, b| a - b));
/// a·b
pub static MUL: OpDef = binary("mul", "a·b, broadcast.", |e| zip(e, |a, b| a * b));
/// a/b
pub static DIV: OpDef = binary("div", "a/b, broadcast; IEEE division.", |e| zip(e, |a, b| a / b));
/// min
pub static MIN: OpDef = binary("min", "a < b ? a : b, broadcast.", |e| zip(e, |a, b| if a < b { a } else { b }));
/// max
pub static MAX: OpDef = binary("max", "a > b ? a : b, broadcast.", |e| zip(e, |a, b| if a > b { a } else { b }));
/// PRelu
pub static PRELU: OpDef =
    binary("prelu", "x > 0 ? x : s·x of inputs x and slope s, which broadcast: ONNX PRelu.", |e| {
        zip(e, |x, s| if x > 0.0 { x } else { s * x })
    });
/// a^b
pub static POW: OpDef = binary(
    "pow",
    "a^b, broadcast, by the project's own e^(b·ln |a|) in f64: ONNX Pow. b = 0 gives 1; a negative a takes the sign of \
     an odd whole b and gives NaN where b is not whole.",
    |e| zip(e, pow),
);
