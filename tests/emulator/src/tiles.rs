//! The tile registers and what the instructions make of them, without a word about where bytes come from.

/// Tile registers.
const TILES: usize = 8;
/// Rows of a tile register.
const ROWS: usize = 16;
/// Bytes of a row.
const ROW: usize = 64;
/// Elements of 32 bits a row.
const COLUMNS: usize = ROW / 4;

/// Which operands of a product hold signed bytes: the first one, the second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs(pub bool, pub bool);

/// The shape of a tile: rows, and bytes a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    rows: usize,
    bytes: usize,
}

/// A thread's tile registers. Every operation gives `None` where the CPU refuses it.
#[derive(Debug)]
pub struct Tiles {
    shapes: [Shape; TILES],
    data: [[[u8; ROW]; ROWS]; TILES],
}

impl Default for Tiles {
    fn default() -> Tiles {
        Tiles::new()
    }
}

impl Tiles {
    /// As after `tilerelease`.
    pub const fn new() -> Tiles {
        Tiles { shapes: [Shape { rows: 0, bytes: 0 }; TILES], data: [[[0; ROW]; ROWS]; TILES] }
    }

    /// `ldtilecfg` and, as a configuration of zeros, `tilerelease`: palette 0 releases, palette 1 sets the shapes.
    pub fn configure(&mut self, bytes: &[u8; 64]) -> Option<()> {
        let [palette, start, rest @ ..] = bytes;
        let (reserved, shapes) = rest.split_at(14);
        let (widths, rows) = shapes.split_at(32);
        if *palette == 0 {
            *self = Tiles::new();
            return Some(());
        }
        let unused = reserved.iter().chain(&widths[2 * TILES..]).chain(&rows[TILES..]);
        if *palette != 1 || usize::from(*start) >= ROWS || unused.into_iter().any(|&b| b != 0) {
            return None;
        }
        let mut set = [Shape::default(); TILES];
        for ((shape, width), &rows) in set.iter_mut().zip(widths.chunks_exact(2)).zip(rows) {
            let [low, high] = *width else { return None };
            *shape = Shape { rows: rows.into(), bytes: u16::from_le_bytes([low, high]).into() };
            let empty = (shape.rows == 0, shape.bytes == 0);
            if shape.rows > ROWS || shape.bytes > ROW || empty.0 != empty.1 {
                return None;
            }
        }
        *self = Tiles { shapes: set, ..Tiles::new() };
        Some(())
    }

    /// `tilezero`.
    pub fn zero(&mut self, tile: usize) -> Option<()> {
        self.shape(tile)?;
        *self.data.get_mut(tile)? = [[0; ROW]; ROWS];
        Some(())
    }

    /// `tileloadd`: `read(row, bytes)` fills a row; what the shape does not cover becomes 0.
    pub fn load(&mut self, tile: usize, mut read: impl FnMut(usize, &mut [u8])) -> Option<()> {
        let shape = self.shape(tile)?;
        self.zero(tile)?;
        let data = self.data.get_mut(tile)?;
        data.iter_mut().take(shape.rows).enumerate().for_each(|(i, row)| read(i, &mut row[..shape.bytes]));
        Some(())
    }

    /// `tilestored`: `write(row, bytes)` takes a row.
    pub fn store(&self, tile: usize, mut write: impl FnMut(usize, &[u8])) -> Option<()> {
        let shape = self.shape(tile)?;
        let data = self.data.get(tile)?;
        data.iter().take(shape.rows).enumerate().for_each(|(i, row)| write(i, &row[..shape.bytes]));
        Some(())
    }

    /// `tdpbssd` and its kin: to each sum of 32 bits of tile `c` adds the products of four bytes of a row of `a` and four of a
    /// column of `b`, for each group of four in a row of `a`; it wraps.
    pub fn product(&mut self, c: usize, a: usize, b: usize, signs: Signs) -> Option<()> {
        let [sums, left, right] = [self.shape(c)?, self.shape(a)?, self.shape(b)?];
        let alone = a != b && b != c && a != c;
        let whole = [sums, left, right].iter().all(|s| s.bytes % 4 == 0);
        if !alone || !whole || sums.rows != left.rows || sums.bytes != right.bytes || left.bytes / 4 != right.rows {
            return None;
        }
        let a = integers(self.data.get(a)?, signs.0);
        let b = integers(self.data.get(b)?, signs.1);
        let c = self.data.get_mut(c)?;
        for (row, a) in c.iter_mut().zip(&a).take(sums.rows) {
            let mut total = [0i32; COLUMNS];
            for (total, bytes) in total.iter_mut().zip(row.as_chunks::<4>().0) {
                *total = i32::from_le_bytes(*bytes);
            }
            for (a, b) in a.as_chunks::<4>().0.iter().zip(&b).take(right.rows) {
                for (total, b) in total.iter_mut().zip(b.as_chunks::<4>().0) {
                    let products = a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y));
                    *total = total.wrapping_add(products.sum());
                }
            }
            for (bytes, total) in row.as_chunks_mut::<4>().0.iter_mut().zip(total) {
                *bytes = total.to_le_bytes();
            }
        }
        Some(())
    }

    /// The shape of a tile that is configured.
    fn shape(&self, tile: usize) -> Option<Shape> {
        self.shapes.get(tile).copied().filter(|shape| shape.rows > 0)
    }
}

/// Bytes with or without a sign.
fn integers(data: &[[u8; ROW]; ROWS], signed: bool) -> [[i16; ROW]; ROWS] {
    data.map(|row| row.map(|b| if signed { b.cast_signed().into() } else { b.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(shapes: [(u8, u8); TILES]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for (i, (rows, width)) in shapes.into_iter().enumerate() {
            bytes[16 + 2 * i] = width;
            bytes[48 + i] = rows;
        }
        bytes
    }

    fn filled(tiles: &mut Tiles, tile: usize, value: impl Fn(usize, usize) -> u8) {
        tiles
            .load(tile, |row, bytes| bytes.iter_mut().enumerate().for_each(|(i, b)| *b = value(row, i)))
            .expect("configured");
    }

    fn sums(tiles: &Tiles, tile: usize) -> Vec<Vec<i32>> {
        let mut rows = Vec::new();
        let words = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
        tiles.store(tile, |_, bytes| rows.push(words(bytes))).expect("configured");
        rows
    }

    #[test]
    fn products_of_every_sign() {
        let shapes = [(3, 8), (3, 20), (5, 8), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)];
        let a = |row: usize, i: usize| (200 + 7 * row + 11 * i) as u8;
        let b = |row: usize, i: usize| (100 + 13 * row + 29 * i) as u8;
        for signs in [Signs(false, false), Signs(false, true), Signs(true, false), Signs(true, true)] {
            let mut tiles = Tiles::new();
            tiles.configure(&configuration(shapes)).expect("a configuration");
            filled(&mut tiles, 1, a);
            filled(&mut tiles, 2, b);
            tiles.product(0, 1, 2, signs).expect("fits");
            tiles.product(0, 1, 2, signs).expect("fits");
            let number = |b: u8, signed: bool| if signed { i32::from(b as i8) } else { i32::from(b) };
            for (row, sums) in sums(&tiles, 0).iter().enumerate() {
                for (column, &sum) in sums.iter().enumerate() {
                    let products =
                        (0..20).map(|k| number(a(row, k), signs.0) * number(b(k / 4, 4 * column + k % 4), signs.1));
                    assert_eq!(sum, 2 * products.sum::<i32>(), "{signs:?} {row} {column}");
                }
            }
        }
    }

    #[test]
    fn what_the_cpu_refuses() {
        let mut tiles = Tiles::new();
        assert!(tiles.zero(0).is_none(), "not configured");
        let fine = configuration([(16, 64); TILES]);
        assert!(tiles.configure(&fine).is_some() && tiles.zero(7).is_some() && tiles.zero(8).is_none());
        assert!(tiles.product(0, 1, 1, Signs(true, true)).is_none(), "a register twice");
        for (at, value) in [(0, 2), (1, 16), (2, 1), (17, 1), (32, 1), (48, 17), (48, 0), (56, 1)] {
            let mut bytes = fine;
            bytes[at] = value;
            assert!(tiles.configure(&bytes).is_none(), "byte {at}");
        }
        tiles.configure(&configuration([(16, 64), (16, 60), (16, 64), (8, 64), (15, 64), (1, 1), (1, 4), (1, 4)]));
        for [c, a, b] in [[0, 1, 2], [0, 2, 4], [3, 2, 0], [5, 6, 7]] {
            assert!(tiles.product(c, a, b, Signs(false, true)).is_none(), "{c} {a} {b}");
        }
        assert!(tiles.configure(&[0; 64]).is_some() && tiles.zero(0).is_none(), "released");
    }

    #[test]
    fn loads_clear_what_they_do_not_cover() {
        let mut tiles = Tiles::new();
        tiles.configure(&configuration([(16, 64); TILES])).expect("a configuration");
        filled(&mut tiles, 0, |_, _| 0xff);
        tiles.shapes[0] = Shape { rows: 2, bytes: 4 };
        filled(&mut tiles, 0, |_, _| 1);
        assert_eq!(tiles.data[0].as_flattened().iter().map(|&b| u32::from(b)).sum::<u32>(), 8);
    }
}
