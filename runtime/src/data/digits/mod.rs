//! `digits`: handwritten-looking digits, drawn when they are asked for, so that something real can be trained without any
//! download. 1×28×28 bytes like MNIST, but harder: strokes of many shapes, slants and thicknesses, low contrast, either
//! polarity, a sloping ground, noise and stray lines. Bit widths show: `models/mnist.dorefa` gets 98.3 % right after five
//! epochs in float, 94.2 % with W1A2G6 and 84.3 % with W1A1G6.
//!
//! A picture follows from its split and index alone, the same bytes on every machine.

mod draw;
mod glyphs;

use super::random::{Draws, key};
use super::{DataError, DataSet, Picture, Pixels, Split};

/// Height and width of a picture.
const SIDE: usize = 28;
/// Tells these pictures' hash from others.
const DIGITS: u64 = 0x0d16_1750;

/// The built-in set: 20 000 pictures for training, 4 000 for testing.
#[derive(Clone, Debug)]
pub struct Digits {
    split: Split,
    names: Vec<String>,
}

impl Digits {
    /// The pictures of a split.
    pub fn new(split: Split) -> Self {
        Digits { split, names: (0..10).map(|d| d.to_string()).collect() }
    }

    /// The draws of picture `i` and, drawn first, its digit; `None` if there is no such picture.
    fn start(&self, i: usize) -> Option<(usize, Draws)> {
        let mut draws = Draws::new(key(&[DIGITS, self.split as u64, i as u64]));
        (i < self.len()).then(|| (draws.below(10), draws))
    }
}

impl DataSet for Digits {
    fn len(&self) -> usize {
        match self.split {
            Split::Train => 20_000,
            Split::Test => 4_000,
        }
    }
    fn shape(&self) -> [usize; 3] {
        [1, SIDE, SIDE]
    }
    fn image(&self, i: usize) -> Result<Picture<'_>, DataError> {
        let (digit, mut draws) = self.start(i).ok_or_else(|| DataError::absent(self, i))?;
        Ok(Picture { shape: self.shape(), pixels: Pixels::U8(draw::draw(digit, &mut draws).into()) })
    }
    fn label(&self, i: usize) -> Option<u32> {
        self.start(i).and_then(|(digit, _)| u32::try_from(digit).ok())
    }
    fn classes(&self) -> usize {
        self.names.len()
    }
    fn class_names(&self) -> &[String] {
        &self.names
    }
    fn name(&self, i: usize) -> String {
        format!("digits, {} picture {i}", self.split.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(set: &Digits, i: usize) -> Vec<u8> {
        match set.image(i).unwrap().pixels {
            Pixels::U8(v) => v.into_owned(),
            Pixels::F32(_) => panic!("bytes"),
        }
    }

    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }

    #[test]
    fn pictures_are_the_same_everywhere_and_differ() {
        let (train, test) = (Digits::new(Split::Train), Digits::new(Split::Test));
        let all: Vec<u8> = (0..100).flat_map(|i| pixels(&train, i)).collect();
        assert_eq!(fnv(&all), FINGERPRINT, "{:#x}", fnv(&all));
        assert_ne!(pixels(&train, 0), pixels(&test, 0));
        assert_ne!(pixels(&train, 0), pixels(&train, 1));
        assert!(test.image(4_000).is_err() && test.label(4_000).is_none());
    }

    #[test]
    fn classes_are_balanced() {
        let set = Digits::new(Split::Test);
        let mut counts = [0; 10];
        (0..set.len()).for_each(|i| counts[set.label(i).unwrap() as usize] += 1);
        assert!(counts.iter().all(|c| (330..470).contains(c)), "{counts:?}");
    }

    /// Of the first 100 pictures; it changes where the drawing changes, and then the accuracies written down elsewhere do too.
    const FINGERPRINT: u64 = 0xdcbb_7813_5f8a_94b0;
}
