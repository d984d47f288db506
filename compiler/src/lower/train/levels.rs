//! How levels of codes lie in memory for the products that read them as they lie. Must never know an instruction set or who
//! reads and writes.

use super::layouts::{SLACK, larger, padded, product};
use crate::lower::LINE;

/// The least and the greatest of some levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub least: i32,
    /// The greatest.
    pub greatest: i32,
}

impl Range {
    /// All levels of at most this magnitude.
    pub fn symmetric(magnitude: i32) -> Range {
        Range { least: -magnitude, greatest: magnitude }
    }

    /// The greatest magnitude.
    pub fn magnitude(self) -> u32 {
        self.least.unsigned_abs().max(self.greatest.unsigned_abs())
    }
}

/// How one level lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As i16.
    Words,
    /// As one unsigned byte: the level plus a bias, so that level 0 is the byte `bias`.
    Bytes {
        /// What is added.
        bias: u8,
    },
}

impl Storage {
    /// Bytes with the least bias, where the range fits.
    pub fn bytes(range: Range) -> Option<Storage> {
        let bias = u8::try_from(range.least.min(0).checked_neg()?).ok()?;
        u8::try_from(range.greatest.checked_add(bias.into())?).ok()?;
        Some(Storage::Bytes { bias })
    }

    /// Bytes of a level.
    pub fn size(self) -> usize {
        if self == Storage::Words { 2 } else { 1 }
    }

    /// What is added to a level.
    pub fn bias(self) -> u8 {
        if let Storage::Bytes { bias } = self { bias } else { 0 }
    }

    /// Levels that a step of a product takes together: those of 4 bytes.
    pub fn together(self) -> usize {
        4 / self.size()
    }
}

/// Levels of codes, channels last, with a border of level 0: the element of row y, column x and channel c is number
/// `((y + top)·(left + W + right) + x + left)·slots + slot(c)`. The slots of a group fill whole steps of a product, or, where
/// that is not much more, whole lines; those beyond its channels hold zeros, or what its weights of zero make harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Of all groups.
    pub channels: usize,
    /// Groups of the convolution that reads it.
    pub groups: usize,
    /// Height and width.
    pub image: [usize; 2],
    /// Rows and columns of level 0: top, left, bottom, right.
    pub border: [usize; 4],
    /// How each lies in memory.
    pub storage: Storage,
}

impl Levels {
    /// `channels` is a multiple of `groups`.
    ///
    /// # Errors
    /// When a sample would not fit 31 bits.
    pub fn new(
        channels: usize,
        groups: usize,
        image: [usize; 2],
        border: [usize; 4],
        storage: Storage,
    ) -> Result<Levels, String> {
        let levels = Levels { channels, groups: groups.max(1), image, border, storage };
        let [h, w] = padded(image, border)?;
        product(&[h, w, levels.pixel()])?;
        Ok(levels)
    }

    /// Elements of a position.
    pub fn slots(&self) -> usize {
        self.groups * self.group()
    }

    /// Elements of a position and group.
    pub fn group(&self) -> usize {
        let together = if self.in_lines() { LINE } else { self.storage.together() };
        (self.channels / self.groups).next_multiple_of(together)
    }

    /// Whether a position fills whole lines, so that each begins at one, with zeros behind its channels: where that is
    /// little, and a border of level 0 is zeros too.
    fn in_lines(&self) -> bool {
        let alone = self.groups == 1 && self.storage == Storage::Bytes { bias: 0 };
        alone && self.channels > LINE / 2 && self.channels.is_multiple_of(16)
    }

    /// Bytes behind a position's channels that are zero, in the border too.
    pub fn zeros(&self) -> usize {
        if self.in_lines() { self.pixel() - self.channels } else { 0 }
    }

    /// Whether a product of `groups` groups can read it: its groups, or channels without gaps between groups.
    pub fn serves(&self, groups: usize) -> bool {
        let other = Levels { groups, ..self.clone() };
        let gapless = |l: &Levels| l.groups == 1 || l.slots() == l.channels;
        self.groups == groups || gapless(self) && gapless(&other)
    }

    /// Where a channel lies among the elements of a position.
    pub fn slot(&self, channel: usize) -> usize {
        let group = self.channels / self.groups;
        channel / group * self.group() + channel % group
    }

    /// Bytes from one column to the next.
    pub fn pixel(&self) -> usize {
        self.slots() * self.storage.size()
    }

    /// Bytes from one row to the next.
    pub fn row(&self) -> usize {
        (self.border[1] + self.image[1] + self.border[3]) * self.pixel()
    }

    /// Byte of the first position that is not border.
    pub fn origin(&self) -> usize {
        self.border[0] * self.row() + self.border[1] * self.pixel()
    }

    /// Bytes behind the last position that belong to the sample, so that tiles of 16 positions may begin at any.
    pub fn behind(&self) -> usize {
        let tiles = self.storage != Storage::Words && self.image != [1, 1];
        if tiles { (15 * self.pixel()).max(SLACK) } else { SLACK }
    }

    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        (self.border[0] + self.image[0] + self.border[2]) * self.row() + self.behind()
    }

    /// The least layout that serves readers of both.
    pub fn cover(&self, other: &Levels) -> Levels {
        Levels { border: larger(self.border, other.border), ..self.clone() }
    }
}
