//! Batch normalisation of the training step, element by element; its statistics are operators of their own.

use super::super::OpDef;
use super::Spread::{Channel, Same};
use super::{like_first, zip};

/// x·s + o
pub static CHANNEL_AFFINE: OpDef = OpDef {
    name: "channel_affine",
    doc: "x·s[c] + o[c], unfused: batch normalisation with s = γ/√(var+ε), o = β − mean·s. Inputs x, s [C], o [C].",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Channel, Channel]),
    eval: |e| zip(e, |x, [s, o]| x * s + o),
};

/// (x − mean)·rstd
pub static CHANNEL_NORMALIZE: OpDef = OpDef {
    name: "channel_normalize",
    doc: "(x − mean[c])·rstd[c], with rstd = 1/√(var+ε). Inputs x, mean [C], rstd [C].",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Channel, Channel]),
    eval: |e| zip(e, |x, [mean, rstd]| (x - mean) * rstd),
};

/// Batch norm, backward.
pub static BATCH_NORM_GRAD: OpDef = OpDef {
    name: "batch_norm_grad",
    doc: "((dz − b[c]) − x̂·a[c])·s[c]: the gradient of batch normalisation through its batch statistics, with \
          a = Σ dz·x̂ / M, b = Σ dz / M, s = γ/√(var+ε). Inputs dz, x̂ (same shape), a, b, s [C].",
    inputs: (5, 5),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Channel, Channel, Channel]),
    eval: |e| zip(e, |dz, [normal, a, b, s]| ((dz - b) - normal * a) * s),
};
