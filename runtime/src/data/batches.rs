//! Batches of a data set as float tensors, normalised.

use super::{DataSet, Pixels};
use crate::tensor::{Data, Tensor};

/// How a pixel becomes a float: (scale·pixel − mean)/std, per channel where there is one value a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normalise {
    /// Pass 8-bit pixels as they are, for a model whose input is u8; the rest is ignored then.
    pub raw: bool,
    /// Factor of a pixel; `None`: pixel/255, divided, not multiplied by the rounded 1/255.
    pub scale: Option<f32>,
    /// Subtracted; empty: nothing; one value: all channels.
    pub mean: Vec<f32>,
    /// Divisor; empty: 1; one value: all channels.
    pub std: Vec<f32>,
}

impl Normalise {
    /// The float of `value`, a pixel (or an already scaled float if `scaled`) of `channel`.
    pub fn apply(&self, value: f32, channel: usize, scaled: bool) -> f32 {
        let pick = |v: &[f32]| v.get(channel).or(v.first()).copied();
        let mut x = match self.scale {
            _ if scaled => value,
            Some(s) => value * s,
            None => value / 255.0,
        };
        if let Some(m) = pick(&self.mean) {
            x -= m;
        }
        if let Some(s) = pick(&self.std) {
            x /= s;
        }
        x
    }
}

/// Some pictures (N, C, H, W) and their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The pictures: floats, or bytes if asked for raw.
    pub x: Tensor,
    /// The labels.
    pub labels: Vec<u32>,
}

/// The batches of a data set in order; the last may be smaller.
pub struct Batches<'a> {
    set: &'a dyn DataSet,
    size: usize,
    normalise: Normalise,
    next: usize,
}

/// The batches of `size` (at least 1) of `set`.
pub fn batches(set: &dyn DataSet, size: usize, normalise: Normalise) -> Batches<'_> {
    Batches { set, size: size.max(1), normalise, next: 0 }
}

/// The pictures at `indices`, in that order; indices that do not exist are left out.
pub fn gather(set: &dyn DataSet, indices: impl Iterator<Item = usize>, normalise: &Normalise) -> Batch {
    let [c, h, w] = set.shape();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    let plane = (h * w).max(1);
    for i in indices {
        let (Some(image), Some(label)) = (set.image(i), set.label(i)) else { continue };
        match image {
            Pixels::U8(v) if normalise.raw => bytes.extend_from_slice(v),
            Pixels::U8(v) => {
                for (channel, plane) in v.chunks(plane).enumerate() {
                    pixels.extend(plane.iter().map(|&p| normalise.apply(f32::from(p), channel, false)));
                }
            }
            Pixels::F32(v) => {
                for (channel, plane) in v.chunks(plane).enumerate() {
                    pixels.extend(plane.iter().map(|&p| normalise.apply(p, channel, true)));
                }
            }
        }
        labels.push(label);
    }
    let data = if bytes.is_empty() { Data::F32(pixels) } else { Data::U8(bytes) };
    let x = Tensor::new([labels.len(), c, h, w], data);
    // A set that breaks its own shape gives an empty batch.
    x.map_or_else(|_| Batch { x: Tensor::scalar(0.0), labels: Vec::new() }, |x| Batch { x, labels })
}

impl Iterator for Batches<'_> {
    type Item = Batch;
    fn next(&mut self) -> Option<Batch> {
        let end = self.next.saturating_add(self.size).min(self.set.len());
        let range = self.next..end;
        self.next = end;
        (!range.is_empty()).then(|| gather(self.set, range, &self.normalise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MemorySet;

    #[test]
    fn batches_cover_the_set_normalised() {
        let x = Tensor::new([3, 2, 1, 1], Data::U8(vec![0, 255, 51, 102, 255, 0])).unwrap();
        let set = MemorySet::new(x, vec![0, 1, 2], vec![], "t".as_ref()).unwrap();
        let got: Vec<Batch> = batches(&set, 2, Normalise::default()).collect();
        assert_eq!(got[0].x, Tensor::f32([2, 2, 1, 1], vec![0.0, 1.0, 51.0 / 255.0, 102.0 / 255.0]).unwrap());
        assert_eq!((got.len(), got[1].labels.as_slice()), (2, &[2][..]));
        let raw = batches(&set, 9, Normalise { raw: true, ..Normalise::default() }).next().unwrap();
        assert_eq!(raw.x.as_u8().unwrap(), [0, 255, 51, 102, 255, 0]);
        let n = Normalise { scale: Some(1.0), mean: vec![1.0, 2.0], std: vec![2.0], raw: false };
        let got = batches(&set, 1, n).next().unwrap();
        assert_eq!(got.x.as_f32().unwrap(), [-0.5, 126.5]);
    }
}
