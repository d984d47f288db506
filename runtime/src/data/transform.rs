//! From a picture of a data set to a model's input: channels, resize, crop, flip, brightness and contrast, normalise, in
//! this order.
//!
//! The same picture under the same key gives the same bits. Evaluation passes no key and gets the fixed part alone.

use super::augment::Drawn;
use super::{Augment, Normalise, Picture, Pixels, resize};

/// Weights of red, green and blue in a grey pixel (ITU-R BT.709, as where pictures are decoded to grey).
const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// The way from a picture to an input. The default leaves pictures as they are, pixels/255.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transform {
    /// Channels of the result: a grey picture is repeated, a colour one becomes grey where 1 is wanted.
    pub channels: Option<usize>,
    /// Height and width to which the picture is scaled, its aspect not kept.
    pub resize: Option<[usize; 2]>,
    /// Height and width cut out afterwards: from the middle, in training at random from the padded picture. `None`: all.
    pub crop: Option<[usize; 2]>,
    /// Random changes in training.
    pub augment: Augment,
    /// From pixels to floats.
    pub normalise: Normalise,
}

/// A picture under way: C×H×W.
struct Planes {
    shape: [usize; 3],
    values: Vec<f32>,
}

impl Transform {
    /// The transform that gives pictures a model's input shape (channels, height, width): always their colours, and their
    /// size if it may `resize` them.
    pub fn fit(input: [usize; 3], resize: bool, normalise: Normalise) -> Self {
        let [c, h, w] = input;
        Transform { channels: Some(c), resize: resize.then_some([h, w]), normalise, ..Transform::default() }
    }

    /// The shape that a picture of `shape` gets.
    ///
    /// # Errors
    /// When the channels cannot be had, or the crop is larger than the (padded) picture.
    pub fn output(&self, shape: [usize; 3]) -> Result<[usize; 3], String> {
        let [c, h, w] = shape;
        let channels = match self.channels {
            Some(wanted) if wanted != c && wanted != 1 && c != 1 || self.channels == Some(1) && c != 1 && c != 3 => {
                return Err(format!(
                    "the picture has {c} channels and the model takes {wanted}; choose another data set or model",
                    wanted = self.channels.unwrap_or_default()
                ));
            }
            Some(wanted) => wanted,
            None => c,
        };
        let [h, w] = self.resize.unwrap_or([h, w]);
        let pad = self.augment.pad.saturating_mul(2);
        let [height, width] = self.crop.unwrap_or([h, w]);
        if height > h.saturating_add(pad) || width > w.saturating_add(pad) {
            return Err(format!(
                "a crop of {height}×{width} (height × width) is larger than the picture, {h}×{w}; crop less, or resize to more"
            ));
        }
        Ok([channels, height, width])
    }

    /// Transforms one picture and appends its values to `out`; a `key` draws the random changes of training. Returns the
    /// shape.
    ///
    /// # Errors
    /// As [`Transform::output`].
    pub fn apply(&self, picture: &Picture<'_>, key: Option<u64>, out: &mut Vec<f32>) -> Result<[usize; 3], String> {
        let shape = self.output(picture.shape)?;
        let (values, bytes): (Vec<f32>, bool) = match &picture.pixels {
            Pixels::U8(v) => (v.iter().map(|&p| f32::from(p)).collect(), true),
            Pixels::F32(v) => (v.to_vec(), false),
        };
        let mut planes = Planes { shape: picture.shape, values };
        planes.recolour_to(shape[0]);
        if let Some(size) = self.resize {
            planes.resize(size);
        }
        let drawn = key.map(Drawn::new);
        planes.crop([shape[1], shape[2]], self.augment.pad, drawn.as_ref());
        let range = if bytes { 255.0 } else { 1.0 };
        if let Some(drawn) = &drawn {
            if self.augment.flip && drawn.flip < 0.5 {
                planes.flip();
            }
            planes.each(|plane, _| self.augment.recolour(plane, drawn, range, bytes));
        }
        if !self.normalise.raw {
            planes.each(|plane, channel| self.normalise.apply(plane, channel, !bytes));
        }
        out.append(&mut planes.values);
        Ok(shape)
    }
}

impl Planes {
    fn size(&self) -> usize {
        (self.shape[1] * self.shape[2]).max(1)
    }

    fn each(&mut self, mut change: impl FnMut(&mut [f32], usize)) {
        let size = self.size();
        self.values.chunks_mut(size).enumerate().for_each(|(channel, plane)| change(plane, channel));
    }

    /// Repeats grey, or mixes grey of red, green and blue.
    fn recolour_to(&mut self, channels: usize) {
        let size = self.size();
        match self.shape[0] {
            c if c == channels => {}
            1 => self.values = self.values.repeat(channels),
            _ => {
                let mut gray = vec![0.0; size];
                for (plane, weight) in self.values.chunks(size).zip(LUMA) {
                    gray.iter_mut().zip(plane).for_each(|(g, x)| *g += weight * x);
                }
                self.values = gray;
            }
        }
        self.shape[0] = channels;
    }

    fn resize(&mut self, size: [usize; 2]) {
        let from = [self.shape[1], self.shape[2]];
        if from != size {
            self.values = resize::bilinear(&self.values, from, size);
            [self.shape[1], self.shape[2]] = size;
        }
    }

    /// Cuts `size` out of the picture with `pad` zeros around it: where `drawn` says, else from the middle.
    fn crop(&mut self, size: [usize; 2], pad: usize, drawn: Option<&Drawn>) {
        let [_, height, width] = self.shape;
        let place = |from: usize, to: usize, unit: Option<f32>| match unit {
            // In the padded picture; `output` has checked that it fits.
            Some(unit) => ((unit * ((from + 2 * pad - to + 1) as f32)) as usize).min(from + 2 * pad - to),
            None => (from + 2 * pad - to) / 2,
        };
        let top = place(height, size[0], drawn.map(|d| d.top));
        let left = place(width, size[1], drawn.map(|d| d.left));
        if [height, width] == size && [top, left] == [pad, pad] {
            return;
        }
        let mut out = Vec::with_capacity(self.shape[0] * size[0] * size[1]);
        for plane in self.values.chunks(self.size()) {
            for y in top..top + size[0] {
                let row =
                    y.checked_sub(pad).filter(|y| *y < height).and_then(|y| plane.get(y * width..(y + 1) * width));
                let pixel = |x: usize| x.checked_sub(pad).and_then(|x| row?.get(x)).copied().unwrap_or(0.0);
                out.extend((left..left + size[1]).map(pixel));
            }
        }
        self.values = out;
        [self.shape[1], self.shape[2]] = size;
    }

    fn flip(&mut self) {
        let width = self.shape[2].max(1);
        self.values.chunks_mut(width).for_each(<[f32]>::reverse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(shape: [usize; 3], pixels: &[u8]) -> Picture<'_> {
        Picture { shape, pixels: Pixels::U8(pixels.into()) }
    }

    fn raw() -> Normalise {
        Normalise { raw: true, ..Normalise::default() }
    }

    fn run(transform: &Transform, picture: &Picture<'_>, key: Option<u64>) -> Vec<f32> {
        let mut out = Vec::new();
        let shape = transform.apply(picture, key, &mut out).unwrap();
        assert_eq!(out.len(), shape.iter().product::<usize>());
        out
    }

    #[test]
    fn grey_and_colour_fit_each_other() {
        let t = Transform::fit([3, 1, 2], true, raw());
        assert_eq!(run(&t, &picture([1, 1, 2], &[7, 9]), None), [7.0, 9.0, 7.0, 9.0, 7.0, 9.0]);
        let t = Transform::fit([1, 1, 1], true, raw());
        let gray = run(&t, &picture([3, 1, 1], &[100, 100, 100]), None);
        assert!((gray[0] - 100.0).abs() < 1e-3);
        assert!(t.output([4, 1, 1]).unwrap_err().contains("4 channels"));
        assert!(Transform::fit([2, 1, 1], true, raw()).output([3, 1, 1]).is_err());
    }

    #[test]
    fn evaluation_crops_the_middle_and_ignores_the_random_part() {
        let augment = "pad=1,flip,brightness=0.5,contrast=0.5:1.5".parse().unwrap();
        let t = Transform { crop: Some([1, 2]), augment, normalise: raw(), ..Transform::default() };
        let pixels: Vec<u8> = (0..12).collect();
        assert_eq!(run(&t, &picture([1, 3, 4], &pixels), None), [5.0, 6.0]);
        assert!(Transform { crop: Some([6, 1]), ..t }.output([1, 3, 4]).unwrap_err().contains("6×1"));
        let t = Transform { normalise: Normalise::default(), ..Transform::default() };
        assert_eq!(run(&t, &picture([1, 1, 2], &[0, 255]), None), [0.0, 1.0]);
        let floats = Picture { shape: [1, 1, 1], pixels: Pixels::F32((&[0.25]).into()) };
        assert_eq!(run(&t, &floats, None), [0.25]);
    }

    #[test]
    fn random_crops_and_flips_occur_and_repeat() {
        let t = Transform { augment: "pad=1,flip".parse().unwrap(), normalise: raw(), ..Transform::default() };
        let pixels = [1, 2, 3, 4];
        let results: Vec<_> = (0..200).map(|k| run(&t, &picture([1, 2, 2], &pixels), Some(k))).collect();
        assert_eq!(results[5], run(&t, &picture([1, 2, 2], &pixels), Some(5)));
        let mut kinds = results.clone();
        kinds.sort_by(|a, b| a.partial_cmp(b).unwrap());
        kinds.dedup();
        // 9 places, each mirrored or not.
        assert_eq!(kinds.len(), 18);
        for kind in [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], [0.0, 0.0, 0.0, 1.0], [4.0, 0.0, 0.0, 0.0]] {
            assert!(kinds.contains(&kind.to_vec()));
        }
    }
}
