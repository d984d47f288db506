//! Memory layouts of the operands of the training step's convolution products: pure arithmetic on offsets, all of one
//! sample. Must never know an instruction set or who reads and writes.

pub use super::levels::{Levels, Range, Storage};

/// Bytes behind a buffer that a kernel may read.
pub(super) const SLACK: usize = 64;

/// Images above this size have offsets that kernels cannot hold.
const LIMIT: usize = 1 << 31;

pub(super) fn product(factors: &[usize]) -> Result<usize, String> {
    let size = factors.iter().try_fold(1usize, |all, &f| all.checked_mul(f));
    size.filter(|&s| s < LIMIT)
        .ok_or_else(|| format!("a layer's operand of {factors:?} elements is too large to train"))
}

pub(super) fn padded(image: [usize; 2], border: [usize; 4]) -> Result<[usize; 2], String> {
    let extent = |i: usize| border[i].checked_add(image[i])?.checked_add(border[i + 2]).filter(|&n| n < LIMIT);
    match (extent(0), extent(1)) {
        (Some(h), Some(w)) => Ok([h, w]),
        _ => Err(format!("an image of {image:?} with a border of {border:?} is too large to train")),
    }
}

pub(crate) fn larger(a: [usize; 4], b: [usize; 4]) -> [usize; 4] {
    [0, 1, 2, 3].map(|i| a[i].max(b[i]))
}

/// Accumulators (i32, or i16 where all of them fit) or values (f32), channels last, no border: element `(y·W + x)·pitch + c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Of all groups.
    pub channels: usize,
    /// Height and width.
    pub image: [usize; 2],
    /// Elements from one position to the next.
    pub pitch: usize,
    /// Bytes of an element: 4, or 2 of accumulators as i16.
    pub element: usize,
}

impl Maps {
    /// The least pitch is that in which whole blocks of 16 channels fit: the channels rounded up to 16, a little more
    /// where groups are no multiple of 16, as the last block of the last group is stored whole.
    ///
    /// # Errors
    /// When a sample would not fit 31 bits.
    pub fn new(channels: usize, groups: usize, image: [usize; 2]) -> Result<Maps, String> {
        let group = channels / groups.max(1);
        let pitch = (channels - group + group.next_multiple_of(16)).next_multiple_of(16);
        product(&[image[0], image[1], pitch, 4])?;
        Ok(Maps { channels, image, pitch, element: 4 })
    }

    /// The same of accumulators as i16, if `words`.
    pub fn words(self, words: bool) -> Maps {
        Maps { element: if words { 2 } else { self.element }, ..self }
    }

    /// Bytes from one position to the next.
    pub fn pixel(&self) -> usize {
        self.pitch * self.element
    }

    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        self.image[0] * self.image[1] * self.pixel() + SLACK
    }
}

/// One plane a channel, f32, i16 or u8, with a border of zeros. With strides as phases, element (Y, X) of the bordered image is
/// number `(((c·sy + Y % sy)·sx + X % sx)·rows + Y / sy)·columns + X / sx`, so that neighbouring outputs of a convolution
/// read neighbours. Rows of bytes are padded to whole steps of strips, and planes to whole lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Of all groups.
    pub channels: usize,
    /// Height and width.
    pub image: [usize; 2],
    /// Rows and columns of zeros: top, left, bottom, right.
    pub border: [usize; 4],
    /// Vertical and horizontal number of phases, at least 1.
    pub phases: [usize; 2],
    /// Bytes of an element: 1, 2 or 4.
    pub element: usize,
}

impl Planes {
    /// # Errors
    /// When a sample would not fit 31 bits.
    pub fn new(
        channels: usize,
        image: [usize; 2],
        border: [usize; 4],
        phases: [usize; 2],
        element: usize,
    ) -> Result<Planes, String> {
        padded(image, border)?;
        let planes = Planes { channels, image, border, phases: phases.map(|p| p.max(1)), element };
        let [h, w] = planes.extent();
        product(&[channels, planes.phases[0], planes.phases[1], h, w, element])?;
        product(&[channels, planes.plane()])?;
        Ok(planes)
    }

    /// Rows and columns of one phase of a channel.
    pub fn extent(&self) -> [usize; 2] {
        [0, 1].map(|i| (self.border[i] + self.image[i] + self.border[i + 2]).div_ceil(self.phases[i]))
    }

    /// Bytes from one row of a phase to the next.
    pub fn row(&self) -> usize {
        let bytes = self.extent()[1] * self.element;
        if self.element == 1 { bytes.next_multiple_of(4) } else { bytes }
    }

    /// Bytes of a phase of a channel.
    pub fn phase(&self) -> usize {
        self.extent()[0] * self.row()
    }

    /// Bytes of a channel.
    pub fn plane(&self) -> usize {
        let bytes = self.phases[0] * self.phases[1] * self.phase();
        if self.element == 1 { bytes.next_multiple_of(64) } else { bytes }
    }

    /// Byte of an element of the first channel; row and column count from the border's corner.
    pub fn offset(&self, y: usize, x: usize) -> usize {
        let [py, px] = self.phases;
        (y % py * px + x % px) * self.phase() + y / py * self.row() + x / px * self.element
    }

    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        self.channels * self.plane() + SLACK
    }

    /// The least layout that serves readers of both.
    pub fn cover(&self, other: &Planes) -> Planes {
        Planes { border: larger(self.border, other.border), ..self.clone() }
    }
}

/// Gradient levels with as many neighbouring columns side by side as 4 bytes hold: two i16 or four i8, `n` in all. Element
/// `((((group·blocks + c/16)·H + y)·⌈W/n⌉ + x/n)·16 + c % 16)·n + x % n`, c counted in its group; zero where x ≥ W.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Of all groups.
    pub channels: usize,
    /// Groups of the convolution.
    pub groups: usize,
    /// Height and width.
    pub image: [usize; 2],
    /// Bytes of an element: 1 or 2.
    pub element: usize,
}

impl Strips {
    /// # Errors
    /// When a sample would not fit 31 bits.
    pub fn new(channels: usize, groups: usize, image: [usize; 2], element: usize) -> Result<Strips, String> {
        let strips = Strips { channels, groups: groups.max(1), image, element };
        product(&[strips.groups, strips.blocks(), image[0], strips.steps(), SLACK])?;
        Ok(strips)
    }

    /// The levels that it is made of.
    pub(super) fn levels(&self, storage: Storage) -> Result<Levels, String> {
        Levels::new(self.channels, self.groups, self.image, [0; 4], storage)
    }

    /// Columns side by side.
    pub fn together(&self) -> usize {
        4 / self.element
    }

    /// Steps of a row.
    pub fn steps(&self) -> usize {
        self.image[1].div_ceil(self.together())
    }

    /// Blocks of 16 channels of a group.
    pub fn blocks(&self) -> usize {
        (self.channels / self.groups).div_ceil(16)
    }

    /// Bytes of a block.
    pub fn block(&self) -> usize {
        self.image[0] * self.steps() * 64
    }

    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        self.groups * self.blocks() * self.block() + SLACK
    }
}
