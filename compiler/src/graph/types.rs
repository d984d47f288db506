//! The types of values: element, shape and memory layout. Nothing here knows an operator.

use super::scale::Scale;
use std::fmt;
use std::sync::Arc;

/// One extent of a shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dim {
    /// The batch: known at the call. Only axis 0 may hold it.
    Batch,
    /// A known extent, at least 1.
    Fixed(usize),
}

/// The extents of a tensor, outermost first.
#[derive(Clone, PartialEq, Eq, Debug, Hash, Default)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// A shape without a batch.
    pub fn fixed(dims: &[usize]) -> Shape {
        Shape(dims.iter().map(|&d| Dim::Fixed(d)).collect())
    }

    /// A shape with the batch as axis 0 and `rest` behind it.
    pub fn batched(rest: &[usize]) -> Shape {
        Shape(std::iter::once(Dim::Batch).chain(rest.iter().map(|&d| Dim::Fixed(d))).collect())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Whether axis 0 is the batch.
    pub fn has_batch(&self) -> bool {
        self.0.first() == Some(&Dim::Batch)
    }

    /// The extents but the batch (all of them where there is none).
    pub fn per_sample(&self) -> Vec<usize> {
        self.0.iter().filter_map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect()
    }

    /// Elements of one sample; `None` on overflow.
    pub fn sample_len(&self) -> Option<usize> {
        self.per_sample().iter().try_fold(1usize, |a, &d| a.checked_mul(d))
    }

    /// The extents with the batch set to `batch`.
    pub fn concrete(&self, batch: usize) -> Vec<usize> {
        self.0.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { batch }).collect()
    }

    /// (channels, height, width) as which a batched value is stored: its image, or all its elements as channels.
    pub fn stored(&self) -> Option<(usize, usize, usize)> {
        self.image().or_else(|| if self.has_batch() { Some((self.sample_len()?, 1, 1)) } else { None })
    }

    /// Whether a batched value of this shape broadcasts to `result` axis by axis of what both are stored as.
    pub fn spreads_over(&self, result: &Shape) -> bool {
        match (self.stored(), result.stored()) {
            (Some((c, h, w)), Some((rc, rh, rw))) => {
                [(c, rc), (h, rh), (w, rw)].iter().all(|&(own, all)| own == all || own == 1)
            }
            _ => false,
        }
    }

    /// The extents but the batch as those of `result` count them, to which the shape broadcasts.
    pub fn aligned(&self, result: &Shape) -> Vec<usize> {
        let (own, rank) = (self.per_sample(), result.per_sample().len());
        let beyond = own.len().saturating_sub(rank);
        std::iter::repeat_n(1, rank.saturating_sub(own.len())).chain(own.into_iter().skip(beyond)).collect()
    }

    /// (channels, height, width) of a batched image; a (batch, features) matrix is an image of one pixel.
    pub fn image(&self) -> Option<(usize, usize, usize)> {
        match *self.0 {
            [Dim::Batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => Some((c, h, w)),
            [Dim::Batch, Dim::Fixed(c)] => Some((c, 1, 1)),
            _ => None,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                write!(f, ", ")?;
            }
            match d {
                Dim::Batch => write!(f, "N")?,
                Dim::Fixed(n) => write!(f, "{n}")?,
            }
        }
        write!(f, "]")
    }
}

/// Scales of a tensor: one for all of it, or one a channel (axis 1 of activations and accumulators, axis 0 of weights).
pub type Scales = Arc<[Scale]>;

/// An integer code. A stored code u is unsigned, 0 ≤ u ≤ `top`; its level is `step·u + offset`, its value scale·level.
///
/// DoReFa weights of k bits: top = 2^k − 1, step 2, offset −top. Activations: step 1, offset 0. Signed q: offset min(q).
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct CodeType {
    /// The greatest code, 1 … [`CodeType::GREATEST`].
    pub top: u32,
    /// Distance of neighbouring levels, at least 1.
    pub step: i32,
    /// The level of code 0.
    pub offset: i32,
    /// The value of level 1.
    pub scale: Scales,
}

impl CodeType {
    /// The greatest code of any type: fixed-point weights take 24 bits, everything else at most 16.
    pub const GREATEST: u32 = (1 << 24) - 1;

    /// Bit planes that a code needs, 1 … 24.
    pub fn bits(&self) -> u32 {
        32 - self.top.leading_zeros()
    }

    /// The level of code `u`.
    pub fn level(&self, u: i64) -> i64 {
        i64::from(self.step) * u + i64::from(self.offset)
    }

    /// Least and greatest level.
    pub fn levels(&self) -> (i64, i64) {
        (self.level(0), self.level(self.top.into()))
    }

    /// The code whose level is 0, where there is one: what a padding tap holds.
    pub fn zero_code(&self) -> Option<u32> {
        let u = -self.offset;
        (u >= 0 && u % self.step == 0 && (u / self.step) as u32 <= self.top).then_some((u / self.step) as u32)
    }
}

/// An exact integer accumulator: `lo ≤ a ≤ hi` is proved, its value is f32(f64(a)·scale).
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct AccType {
    /// Proved lower bound.
    pub lo: i64,
    /// Proved upper bound.
    pub hi: i64,
    /// Exact product of the factors' scales.
    pub scale: Scales,
}

impl AccType {
    /// Whether 32 bits hold every accumulator.
    pub fn fits_i32(&self) -> bool {
        self.lo >= i32::MIN.into() && self.hi <= i32::MAX.into()
    }

    /// The scale of output `o`, whether there is one for all or one each.
    pub fn scale_of(&self, o: usize) -> f64 {
        self.scale.get(if self.scale.len() == 1 { 0 } else { o }).map_or(0.0, |s| s.to_f64())
    }
}

/// The element of a value.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Elem {
    /// IEEE single.
    F32,
    /// A quantised code.
    Codes(CodeType),
    /// An exact accumulator.
    Acc(AccType),
}

/// How a value lies in memory. It never changes a value; the interpreter ignores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Layout {
    /// Row-major in the order of the axes (N, C, H, W).
    #[default]
    Dense,
    /// Channels innermost, padded to a multiple of 4; f32 or i32 elements.
    Nhwc,
    /// Codes of at most 2 bits, 4 channels a byte: bit c % 4 is plane 0, bit 4 + c % 4 plane 1; byte `(y·W + x)·C/4 + c/4`.
    Nibbles,
    /// One bit plane a code bit: u64 word `((y·W + x)·bits + plane)·words + c/64`, bit c % 64.
    Bits,
}

/// The type of a value.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct ValueType {
    /// Element.
    pub elem: Elem,
    /// Extents.
    pub shape: Shape,
    /// Memory layout.
    pub layout: Layout,
}

impl ValueType {
    /// A dense f32 value.
    pub fn f32(shape: Shape) -> ValueType {
        ValueType { elem: Elem::F32, shape, layout: Layout::Dense }
    }

    /// The same shape and layout with another element.
    pub fn with_elem(&self, elem: Elem) -> ValueType {
        ValueType { elem, shape: self.shape.clone(), layout: self.layout }
    }

    /// The code type, if the elements are codes.
    pub fn codes(&self) -> Option<&CodeType> {
        if let Elem::Codes(c) = &self.elem { Some(c) } else { None }
    }

    /// The accumulator type, if the elements are accumulators.
    pub fn acc(&self) -> Option<&AccType> {
        if let Elem::Acc(a) = &self.elem { Some(a) } else { None }
    }
}

fn write_scales(f: &mut fmt::Formatter<'_>, scales: &Scales) -> fmt::Result {
    match &**scales {
        [one] => write!(f, "{one}"),
        many => write!(f, "{} a channel", many.len()),
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.elem {
            Elem::F32 => write!(f, "f32")?,
            Elem::Codes(c) => {
                write!(f, "u{}<0..{}, step {}, offset {}, scale ", c.bits(), c.top, c.step, c.offset)?;
                write_scales(f, &c.scale)?;
                write!(f, ">")?;
            }
            Elem::Acc(a) => {
                write!(f, "acc<{}..{}, scale ", a.lo, a.hi)?;
                write_scales(f, &a.scale)?;
                write!(f, ">")?;
            }
        }
        write!(f, "{}", self.shape)?;
        match self.layout {
            Layout::Dense => Ok(()),
            Layout::Nhwc => write!(f, " nhwc"),
            Layout::Nibbles => write!(f, " nibbles"),
            Layout::Bits => write!(f, " bits"),
        }
    }
}
