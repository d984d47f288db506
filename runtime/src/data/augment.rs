//! Random changes of training pictures: crop, flip, brightness, contrast. All draws of a picture come from one key in a fixed
//! order, whatever is switched on, so that switching one thing on leaves the others' draws alone.

use super::random::Draws;
use std::str::FromStr;

/// What is changed at random. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augment {
    /// Pixels of black border added on each side before the random crop.
    pub pad: usize,
    /// Mirror left and right, with probability ½.
    pub flip: bool,
    /// Up to this fraction of the full range (255 for 8-bit pixels, 1 for floats) is added or subtracted.
    pub brightness: f32,
    /// The distance from the picture's channel mean is multiplied by a factor in this range.
    pub contrast: Option<[f32; 2]>,
}

/// The draws of one picture, each in [0, 1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub top: f32,
    pub left: f32,
    pub flip: f32,
    pub brightness: f32,
    pub contrast: f32,
}

impl Drawn {
    /// The draws of `key`.
    pub fn new(key: u64) -> Self {
        let mut draws = Draws::new(key);
        let mut unit = || draws.unit();
        Drawn { top: unit(), left: unit(), flip: unit(), brightness: unit(), contrast: unit() }
    }
}

impl Augment {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Augment::default()
    }

    /// Changes brightness, then contrast of one channel; `range` is the full range of a value, to which 8-bit pixels
    /// (`clamp`) are limited.
    pub(crate) fn recolour(&self, plane: &mut [f32], drawn: &Drawn, range: f32, clamp: bool) {
        if self.brightness == 0.0 && self.contrast.is_none() {
            return;
        }
        let delta = (2.0 * drawn.brightness - 1.0) * self.brightness * range;
        plane.iter_mut().for_each(|x| *x += delta);
        if let Some([lo, hi]) = self.contrast {
            let factor = lo + (hi - lo) * drawn.contrast;
            let mean = plane.iter().sum::<f32>() / plane.len().max(1) as f32;
            plane.iter_mut().for_each(|x| *x = (*x - mean) * factor + mean);
        }
        if clamp {
            plane.iter_mut().for_each(|x| *x = x.clamp(0.0, range));
        }
    }
}

impl FromStr for Augment {
    type Err = String;
    /// `none`, or some of `pad=P,flip,brightness=B,contrast=LO:HI`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut augment = Augment::default();
        if text == "none" {
            return Ok(augment);
        }
        for part in text.split(',') {
            let bad = |what: &str| {
                format!("augmentation `{part}`: {what}; write none, or pad=P,flip,brightness=B,contrast=LO:HI")
            };
            let number = |t: &str| t.parse::<f32>().ok().filter(|v| v.is_finite() && *v >= 0.0);
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "pad" => {
                    augment.pad =
                        value.parse().ok().filter(|p| *p <= 4096).ok_or_else(|| bad("P is a number of pixels"))?
                }
                "flip" if value.is_empty() => augment.flip = true,
                "brightness" => {
                    augment.brightness =
                        number(value).filter(|b| *b <= 1.0).ok_or_else(|| bad("B is a fraction between 0 and 1"))?;
                }
                "contrast" => {
                    let range = value.split_once(':').and_then(|(lo, hi)| Some([number(lo)?, number(hi)?]));
                    augment.contrast =
                        Some(range.filter(|[lo, hi]| lo <= hi).ok_or_else(|| bad("LO and HI are factors, LO ≤ HI"))?);
                }
                _ => return Err(bad("is not understood")),
            }
        }
        Ok(augment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_documents() {
        let all: Augment = "pad=4,flip,brightness=0.12,contrast=0.5:1.5".parse().unwrap();
        assert_eq!(all, Augment { pad: 4, flip: true, brightness: 0.12, contrast: Some([0.5, 1.5]) });
        assert!("none".parse::<Augment>().unwrap().is_none());
        for bad in
            ["", "pad", "pad=-1", "flip=1", "brightness=2", "contrast=1", "contrast=2:1", "brightness=nan", "zoom"]
        {
            assert!(bad.parse::<Augment>().unwrap_err().contains("contrast=LO:HI"), "{bad}");
        }
    }

    #[test]
    fn recolouring_keeps_the_range_of_pixels() {
        let augment = Augment { brightness: 0.5, contrast: Some([2.0, 2.0]), ..Augment::default() };
        let drawn = Drawn { top: 0.0, left: 0.0, flip: 0.0, brightness: 0.5, contrast: 0.3 };
        let mut plane = [0.0, 100.0, 200.0];
        augment.recolour(&mut plane, &drawn, 255.0, true);
        assert_eq!(plane, [0.0, 100.0, 255.0]);
        let mut plane = [0.0, 1.0, 2.0];
        augment.recolour(&mut plane, &drawn, 1.0, false);
        assert_eq!(plane, [-1.0, 1.0, 3.0]);
        let mut plane = [250.0];
        augment.recolour(&mut plane, &Drawn { brightness: 1.0, ..drawn }, 255.0, true);
        assert_eq!(plane, [255.0]);
    }
}
