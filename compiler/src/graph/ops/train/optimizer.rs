//! The optimiser's arithmetic, element by element, and the numbers that a step is told.

use super::super::OpDef;
use super::Spread::{Same, Scalar};
use super::{like_first, zip};
use crate::graph::attrs::{AttrDef, Kind};
use crate::graph::context::HYPER as NAMES;
use crate::graph::types::{Shape, ValueType};

/// A number of the step.
pub static HYPER: OpDef = OpDef {
    name: "hyper",
    doc: "[1]: a number of the step's context as f32. adam_rate = lr·√(1−β₂ᵗ)/(1−β₁ᵗ), adam_epsilon = ε·√(1−β₂ᵗ), in f64, \
          the powers by repeated squaring, t the step from 1.",
    inputs: (0, 0),
    attrs: &[AttrDef { name: "name", kind: Kind::Word(NAMES), required: true, doc: "which number" }],
    elementwise: false,
    infer: |_, _| Ok(vec![ValueType::f32(Shape::fixed(&[1]))]),
    eval: |e| e.floats(vec![e.context.hyper(e.attrs.word("name", "")).ok_or("there is no such number")?]),
};

/// A fixed number.
pub static LITERAL: OpDef = OpDef {
    name: "literal",
    doc: "A tensor without a batch, `shape` (default [1]), that holds `value` everywhere.",
    inputs: (0, 0),
    attrs: &[
        AttrDef { name: "value", kind: Kind::Float, required: true, doc: "the number" },
        AttrDef { name: "shape", kind: Kind::Ints, required: false, doc: "extents, default [1]" },
    ],
    elementwise: false,
    infer: |attrs, _| {
        let dims = match attrs.ints("shape") {
            [] => vec![1],
            dims => dims
                .iter()
                .map(|&d| usize::try_from(d).map_err(|_| "extents are at least 1"))
                .collect::<Result<_, _>>()?,
        };
        let shape = Shape::fixed(&dims);
        match shape.sample_len() {
            Some(n) if (1..=1 << 31).contains(&n) => Ok(vec![ValueType::f32(shape)]),
            _ => Err(format!("the shape {shape} is empty or too large")),
        }
    },
    eval: |e| e.floats(vec![e.attrs.float("value", 0.0); e.shape().iter().product()]),
};

/// β·m + (1 − β)·g
pub static MOMENT: OpDef = OpDef {
    name: "moment",
    doc: "β·m + (1 − β)·g: Adam's first moment, and the running statistics of batch normalisation. Inputs m, g, β [1].",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Scalar]),
    eval: |e| zip(e, |m, [g, beta]| beta * m + (1.0 - beta) * g),
};

/// β·v + (1 − β)·g²
pub static MOMENT_SQUARED: OpDef = OpDef {
    name: "moment_squared",
    doc: "β·v + (1 − β)·(g·g): Adam's second moment. Inputs v, g, β [1].",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Scalar]),
    eval: |e| zip(e, |v, [g, beta]| beta * v + (1.0 - beta) * (g * g)),
};

/// Adam's step.
pub static ADAM_STEP: OpDef = OpDef {
    name: "adam_step",
    doc: "w − rate·(m/(√v + ε)): TensorFlow's Adam with rate = hyper(adam_rate), ε = hyper(epsilon); PyTorch's with \
          ε = hyper(adam_epsilon). Inputs w, m, v, rate [1], ε [1].",
    inputs: (5, 5),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Same, Scalar, Scalar]),
    eval: |e| zip(e, |w, [m, v, rate, epsilon]| w - rate * (m / (v.sqrt() + epsilon))),
};

/// β·m + g
pub static MOMENTUM: OpDef = OpDef {
    name: "momentum",
    doc: "β·m + g: the velocity of SGD. Inputs m, g, β [1].",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Scalar]),
    eval: |e| zip(e, |m, [g, beta]| beta * m + g),
};

/// w − rate·d
pub static DESCEND: OpDef = OpDef {
    name: "descend",
    doc: "w − rate·d: a step down. Inputs w, d, rate [1].",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Scalar]),
    eval: |e| zip(e, |w, [d, rate]| w - rate * d),
};
