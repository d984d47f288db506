//! Operators of the training step: one file a family. Their `eval` is the definition that kernels must reproduce bit by bit.
//!
//! Shapes: feature maps are (N,C,H,W) or (N,C); `[C]` is one number a channel (axis 1), `[1]` a scalar, `[N]` one a sample.
//! An element-wise operator's result has the shape of operand 0; the other operands spread over it ([`Spread`]).
//! f32 steps are rounded one by one in the order in which a formula stands, never fused but where it says `mul_add`, which
//! follows the numeric profile. Nothing here knows how the backward graph is built.

pub mod activation;
pub mod affine;
pub mod dropout;
pub mod gradient;
pub mod loss;
pub mod optimizer;
pub mod pools;
pub mod products;
pub mod statistics;
#[cfg(test)]
mod tests;
pub mod weights;

use super::{Eval, f32_input};
use crate::graph::attrs::{AttrDef, Kind};
use crate::graph::types::{Dim, Shape, ValueType};

/// `place`: which stream of noise.
const PLACE: AttrDef = AttrDef {
    name: "place",
    kind: Kind::Int,
    required: true,
    doc: "ordinal of the quantiser or dropout among those of the source graph: which stream of noise",
};
/// `area`: positions of a channel.
const AREA: AttrDef = AttrDef {
    name: "area",
    kind: Kind::Int,
    required: true,
    doc: "positions of a channel in one sample, height·width",
};
/// `input`: extents of what the forward operator read.
const INPUT: AttrDef =
    AttrDef { name: "input", kind: Kind::Ints, required: true, doc: "[height, width] of the forward operator's input" };

/// How an operand spreads over the elements of operand 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// The same shape.
    Same,
    /// `[C]`: the element's place along axis 1.
    Channel,
    /// `[1]`.
    Scalar,
    /// `[N]`: the element's sample.
    Sample,
}

/// How an operand of shape `shape` spreads over operand 0 of shape `over`; `None` where it does not.
pub fn spread(shape: &Shape, over: &Shape) -> Option<Spread> {
    match *shape.0 {
        _ if shape == over => Some(Spread::Same),
        [Dim::Fixed(1)] => Some(Spread::Scalar),
        [Dim::Batch] if over.has_batch() => Some(Spread::Sample),
        [Dim::Fixed(c)] if over.has_batch() && over.0.get(1) == Some(&Dim::Fixed(c)) => Some(Spread::Channel),
        _ => None,
    }
}

/// Checks that operand `i` is f32 and spreads over operand 0 in one of `ways`.
fn operand(types: &[&ValueType], i: usize, ways: &[Spread]) -> Result<(), String> {
    let over = &types.first().ok_or("input 0 is missing")?.shape;
    let shape = &f32_input(types, i)?.shape;
    // A channel count or a batch-less shape of 1 element is also a scalar.
    let fits = spread(shape, over).is_some_and(|s| {
        ways.contains(&s)
            || (s == Spread::Scalar && ways.contains(&Spread::Channel) && over.0.get(1) == Some(&Dim::Fixed(1)))
            || (s == Spread::Same && ways.contains(&Spread::Scalar) && *shape == Shape::fixed(&[1]))
            || (s == Spread::Same && ways.contains(&Spread::Sample) && *shape == Shape::batched(&[]))
    });
    if fits { Ok(()) } else { Err(format!("input {i} of shape {shape} does not spread over {over} as {ways:?}")) }
}

/// Checks operands 1 … of an element-wise operator of floats, one way each; the result has operand 0's type.
fn like_first(types: &[&ValueType], ways: &[Spread]) -> Result<Vec<ValueType>, String> {
    let x = f32_input(types, 0)?;
    ways.iter().enumerate().try_for_each(|(i, &way)| operand(types, i + 1, &[way]))?;
    Ok(vec![ValueType::f32(x.shape.clone())])
}

/// Reads an operand at the index of each element of operand 0.
pub(super) struct Reader<'a> {
    data: &'a [f32],
    divisor: usize,
    extent: usize,
}

impl Reader<'_> {
    /// What the operand holds for flat element `i` of operand 0.
    #[inline]
    pub(super) fn at(&self, i: usize) -> f32 {
        self.data.get(i / self.divisor % self.extent).copied().unwrap_or(f32::NAN)
    }
}

/// The reader of operand `i`.
pub(super) fn reader<'a>(e: &Eval<'a>, i: usize) -> Result<Reader<'a>, String> {
    let types = (e.types.first().ok_or("input 0 is missing")?, e.types.get(i).ok_or("an input is missing")?);
    let extents = types.0.shape.concrete(e.batch);
    let inner = |axes: usize| extents.iter().skip(axes).product::<usize>().max(1);
    let data = e.f32(i)?;
    let divisor = match spread(&types.1.shape, &types.0.shape) {
        Some(Spread::Same | Spread::Scalar) => 1,
        Some(Spread::Channel) => inner(2),
        Some(Spread::Sample) => inner(1),
        None => return Err(format!("input {i} does not spread over {}", types.0)),
    };
    Ok(Reader { data, divisor, extent: data.len().max(1) })
}

/// Maps the floats of operand 0 with what the others hold there: `f(x, [operand 1, 2, …])`.
fn zip<const N: usize>(
    e: &Eval<'_>,
    f: impl Fn(f32, [f32; N]) -> f32,
) -> Result<dorefa_runtime::tensor::Tensor, String> {
    let readers = (1..=N).map(|i| reader(e, i)).collect::<Result<Vec<_>, _>>()?;
    let readers: [Reader<'_>; N] = readers.try_into().map_err(|_| "an input is missing")?;
    let out = e.f32(0)?.iter().enumerate().map(|(i, &x)| f(x, std::array::from_fn(|k| readers[k].at(i))));
    e.floats(out.collect())
}

/// A dimension attribute of two extents.
fn extents(attrs: &crate::graph::attrs::Attrs, name: &str) -> Result<[usize; 2], String> {
    super::conv::pair(attrs, name, 1)
}

/// Channels and positions of a feature map (N,C,H,W) or (N,C).
fn map_extents(shape: &Shape) -> Result<(usize, usize), String> {
    let (c, h, w) = shape.image().ok_or_else(|| format!("must be (N,C,H,W) or (N,C), is {shape}"))?;
    Ok((c, h * w))
}
