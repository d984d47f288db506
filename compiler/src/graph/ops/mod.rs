//! The table of operators. It drives the parser, the printer, the verifier, shape inference and the interpreter:
//! an operator is one file here and one line in [`TABLE`].
//!
//! Inference and evaluation know nothing of memory layouts or machines.

mod activation;
mod binary;
mod conv;
mod integer;
mod linear;
mod logic;
mod normalize;
mod pool;
mod product;
mod quantize;
mod reduce;
mod repeat;
mod residual;
mod shape;
pub mod take;
pub mod train;
mod unary;

pub use activation::{ERF as ERF_COEFFICIENTS, EXP as EXP_COEFFICIENTS, LOG as LOG_COEFFICIENTS};
pub use conv::Geometry;
pub use integer::code_attrs;
pub use normalize::scale_offset;
pub use pool::Window;
pub use quantize::{quant_bounds, steps, weight_codes};
pub use reduce::{axes as reduced_axes, lane_sum};
pub use residual::{residual_table, residual_thresholds};
pub use unary::{round, sign};

use super::attrs::{AttrDef, Attrs};
use super::context::Context;
use super::noise;
use super::types::ValueType;
use dorefa_runtime::tensor::{Data, Tensor};

/// An operator.
pub struct OpDef {
    /// Its name in the text format.
    pub name: &'static str,
    /// One paragraph: shapes, value ranges, formula, and the ONNX operator it stands for.
    pub doc: &'static str,
    /// Least and greatest number of inputs.
    pub inputs: (usize, usize),
    /// Its attributes.
    pub attrs: &'static [AttrDef],
    /// Whether each output element depends on the elements at its own place only (channel constants broadcast).
    pub elementwise: bool,
    /// Types of the outputs, or what does not fit.
    pub infer: fn(&Attrs, &[&ValueType]) -> Result<Vec<ValueType>, String>,
    /// The definition of the operator's numerics.
    pub eval: fn(&Eval<'_>) -> Result<Tensor, String>,
}

impl std::fmt::Debug for OpDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for OpDef {
    fn eq(&self, other: &OpDef) -> bool {
        self.name == other.name
    }
}

/// What an operator's evaluation sees.
pub struct Eval<'a> {
    /// Attributes.
    pub attrs: &'a Attrs,
    /// Input tensors: f32 data, `I32` codes, `I64` accumulators.
    pub inputs: &'a [&'a Tensor],
    /// Input types.
    pub types: &'a [&'a ValueType],
    /// Output type.
    pub output: &'a ValueType,
    /// Batch size of this evaluation.
    pub batch: usize,
    /// Numeric profile: whether products are fused into sums (numerics contract, rule 5).
    pub fma: bool,
    /// Seed, counters and hyper-parameters of a training step; zeros in inference.
    pub context: Context,
}

impl<'a> Eval<'a> {
    /// Input `i`.
    pub fn input(&self, i: usize) -> Result<&'a Tensor, String> {
        self.inputs.get(i).copied().ok_or_else(|| format!("input {i} is missing"))
    }

    /// Floats of input `i`.
    pub fn f32(&self, i: usize) -> Result<&'a [f32], String> {
        self.input(i)?.as_f32().ok_or_else(|| format!("input {i} is not f32"))
    }

    /// Codes of input `i`.
    pub fn i32(&self, i: usize) -> Result<&'a [i32], String> {
        self.input(i)?.as_i32().ok_or_else(|| format!("input {i} holds no codes"))
    }

    /// Accumulators of input `i`.
    pub fn i64(&self, i: usize) -> Result<&'a [i64], String> {
        self.input(i)?.as_i64().ok_or_else(|| format!("input {i} holds no accumulators"))
    }

    /// The output's extents.
    pub fn shape(&self) -> Vec<usize> {
        self.output.shape.concrete(self.batch)
    }

    /// acc + a·b in the numeric profile.
    #[inline]
    pub fn mul_add(&self, a: f32, b: f32, acc: f32) -> f32 {
        if self.fma { a.mul_add(b, acc) } else { acc + a * b }
    }

    /// A tensor of floats in the output's shape.
    pub fn floats(&self, data: Vec<f32>) -> Result<Tensor, String> {
        Tensor::f32(self.shape(), data).map_err(|e| e.to_string())
    }

    /// A tensor of codes in the output's shape.
    pub fn codes(&self, data: Vec<i32>) -> Result<Tensor, String> {
        Tensor::new(self.shape(), Data::I32(data)).map_err(|e| e.to_string())
    }

    /// A tensor of accumulators in the output's shape.
    pub fn accumulators(&self, data: Vec<i64>) -> Result<Tensor, String> {
        Tensor::new(self.shape(), Data::I64(data)).map_err(|e| e.to_string())
    }

    /// The noise key of a sample of this batch at a place.
    pub fn noise_key(&self, place: u64, sample: usize) -> [u32; 2] {
        let c = &self.context;
        noise::key(c.seed, c.step, place, c.sample0.wrapping_add(sample as u64))
    }
}

fn no_eval(_: &Eval<'_>) -> Result<Tensor, String> {
    Err("is given, not computed".to_owned())
}

fn no_infer(_: &Attrs, _: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    Err("is declared, not inferred".to_owned())
}

/// An input of the graph.
pub static INPUT: OpDef = OpDef {
    name: "input",
    doc: "An input of the graph; its type is declared.",
    inputs: (0, 0),
    attrs: &[],
    elementwise: false,
    infer: no_infer,
    eval: no_eval,
};

/// A constant or trained parameter.
pub static CONSTANT: OpDef = OpDef {
    name: "constant",
    doc: "A constant or trained parameter; its type is declared, its data stand in the weights file.",
    inputs: (0, 0),
    attrs: &[],
    elementwise: false,
    infer: no_infer,
    eval: no_eval,
};

/// All operators, in the order of the documentation.
pub static TABLE: &[&OpDef] = &[
    &INPUT,
    &CONSTANT,
    // Sums of products
    &conv::CONV,
    &linear::MATMUL,
    &product::PRODUCT,
    // Normalisation and element-wise arithmetic
    &normalize::BATCH_NORM,
    &binary::ADD,
    &binary::SUB,
    &binary::MUL,
    &binary::DIV,
    &binary::MIN,
    &binary::MAX,
    &binary::POW,
    &binary::PRELU,
    &logic::EQUAL,
    &logic::GREATER,
    &logic::GREATER_EQUAL,
    &logic::SELECT,
    &unary::NEG,
    &unary::ABS,
    &unary::SQRT,
    &unary::SIGN,
    &unary::STEP,
    &unary::ROUND,
    &unary::RELU,
    &unary::LEAKY_RELU,
    &unary::CLIP,
    &activation::EXP_OP,
    &activation::LOG_OP,
    &activation::TANH,
    &activation::SIGMOID,
    &activation::ERF_OP,
    &activation::SOFTMAX,
    // Pools, reductions, shapes
    &pool::MAX_POOL,
    &pool::AVERAGE_POOL,
    &pool::GLOBAL_AVERAGE_POOL,
    &reduce::REDUCE_MEAN,
    &reduce::REDUCE_MAX,
    &reduce::REDUCE_SUM,
    &reduce::ARG_MAX,
    &shape::RESHAPE,
    &shape::TRANSPOSE,
    &shape::CONCAT,
    &shape::PAD,
    &shape::SLICE,
    &take::TAKE,
    &repeat::REPEAT,
    // Quantisers: f32 in, f32 out
    &quantize::QUANTIZE_WEIGHTS,
    &quantize::QUANTIZE_ACTIVATION,
    &quantize::QUANTIZE_GRADIENT,
    &quantize::QUANT,
    &quantize::BIPOLAR_QUANT,
    &quantize::MULTI_THRESHOLD,
    // Integer operators, made by the passes
    &integer::ENCODE,
    &integer::DECODE,
    &integer::INT_CONV,
    &integer::THRESHOLD,
    &integer::CODE_POOL,
    &integer::SUM_POOL,
    &integer::APPEND_TOP,
    &residual::TABLE_ADD,
    &residual::RESIDUAL_THRESHOLD,
    &integer::LOOKUP,
    // The training step: forward
    &train::dropout::DROPOUT,
    &train::dropout::DROPOUT_MASK,
    &train::activation::ENCODE_ACTIVATION,
    &train::weights::ENCODE_WEIGHTS,
    &train::weights::MEAN_ABS,
    &train::weights::MAX_ABS,
    &train::weights::SUM_PRODUCT,
    &train::weights::COUNT_EQUAL_ABS,
    &train::statistics::BATCH_MEAN,
    &train::statistics::BATCH_VARIANCE,
    &train::statistics::UNBIASED,
    &train::affine::CHANNEL_AFFINE,
    &train::affine::CHANNEL_NORMALIZE,
    &train::loss::SOFTMAX_CROSS_ENTROPY,
    &train::loss::CORRECT,
    &train::loss::SAMPLE_MEAN,
    &train::loss::SAMPLE_SUM,
    // The training step: backward
    &train::loss::SOFTMAX_CROSS_ENTROPY_GRAD,
    &train::gradient::SAMPLE_MAX_ABS,
    &train::gradient::ENCODE_GRADIENT,
    &train::products::INT_CONV_INPUT_GRAD,
    &train::products::INT_CONV_WEIGHT_GRAD,
    &train::products::CONV_INPUT_GRAD,
    &train::products::CONV_WEIGHT_GRAD,
    &train::pools::MAX_POOL_WINNER,
    &train::pools::MAX_POOL_GRAD,
    &train::pools::AVERAGE_POOL_GRAD,
    &train::pools::GLOBAL_AVERAGE_POOL_GRAD,
    &train::activation::RELU_GRAD,
    &train::activation::CLIP_GRAD,
    &train::activation::ABS_BOUND_GRAD,
    &train::activation::LEAKY_RELU_GRAD,
    &train::affine::BATCH_NORM_GRAD,
    &train::statistics::CHANNEL_SUM,
    &train::statistics::CHANNEL_DOT,
    &train::statistics::PER_ELEMENT,
    &train::weights::TANH_WEIGHTS_GRAD,
    // The training step: update
    &train::optimizer::HYPER,
    &train::optimizer::LITERAL,
    &train::optimizer::MOMENT,
    &train::optimizer::MOMENT_SQUARED,
    &train::optimizer::ADAM_STEP,
    &train::optimizer::MOMENTUM,
    &train::optimizer::DESCEND,
];

/// The operator of a name.
pub fn find(name: &str) -> Option<&'static OpDef> {
    TABLE.iter().copied().find(|op| op.name == name)
}

/// The operator of a name that the compiler itself wrote; unknown names give `constant`, which nothing can be added as.
pub fn known(name: &str) -> &'static OpDef {
    find(name).unwrap_or(&CONSTANT)
}

/// Checks attributes against the operator's table.
///
/// # Errors
/// Names the attribute that is unknown, missing or of another kind.
pub fn check_attrs(op: &OpDef, attrs: &Attrs) -> Result<(), String> {
    for (name, value) in &attrs.0 {
        match op.attrs.iter().find(|d| d.name == name) {
            None => {
                let known: Vec<_> = op.attrs.iter().map(|d| d.name).collect();
                return Err(format!("has no attribute `{name}`; it has: {}", known.join(", ")));
            }
            Some(d) if !d.kind.admits(value) => {
                return Err(format!("attribute `{name}` must be {:?}", d.kind));
            }
            Some(_) => {}
        }
    }
    match op.attrs.iter().find(|d| d.required && !attrs.0.contains_key(d.name)) {
        Some(d) => Err(format!("needs the attribute `{}`: {}", d.name, d.doc)),
        None => Ok(()),
    }
}

/// Input `i`, which must be f32.
fn f32_input<'a>(types: &[&'a ValueType], i: usize) -> Result<&'a ValueType, String> {
    let ty = types.get(i).ok_or_else(|| format!("input {i} is missing"))?;
    if ty.elem == super::types::Elem::F32 { Ok(ty) } else { Err(format!("input {i} must be f32, is {ty}")) }
}
