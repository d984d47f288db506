//! What lies around levels and between them: their border, and slots that no channel fills, which products read as level 0. Must never
//! know what the levels are.

use crate::codegen::emitter::Emitter;
use crate::lower::train::layouts::Levels;
use cranelift_codegen::ir::Value;

/// Bytes of a vector that is filled.
const VECTOR: usize = 16;

/// Fills with level 0 what lies around the levels at `base` and between their channels, and perhaps some channels: to be called
/// before they are stored.
pub(super) fn surround(e: &mut Emitter<'_, '_>, levels: &Levels, base: Value) {
    let gap = (levels.slots() - levels.channels) * levels.storage.size();
    if gap == 0 && levels.border == [0; 4] {
        return;
    }
    let (bias, [height, width]) = (levels.storage.bias(), levels.image);
    if gap > 0 && (levels.groups > 1 || levels.pixel() < VECTOR) {
        return fill(e, base, levels.bytes(), bias);
    }
    let columns = width * levels.pixel();
    let last = levels.origin() + (height - 1) * levels.row() + columns;
    fill(e, base, levels.origin(), bias);
    let behind = e.add(base, last);
    fill(e, behind, levels.bytes() - last, bias);
    // Where a row's right border meets the next one's left.
    let first = e.add(base, levels.origin());
    let ends = e.add(first, columns);
    e.times(height - 1, |e, y| {
        let end = e.at(ends, y, levels.row());
        fill(e, end, levels.row() - columns, bias);
    });
    if gap > 0 {
        // Whole vectors, which may begin among the channels.
        let gap = gap.next_multiple_of(VECTOR);
        let first = e.add(first, levels.pixel() - gap);
        e.times(height, |e, y| {
            let row = e.at(first, y, levels.row());
            e.times(width, |e, x| {
                let behind = e.at(row, x, levels.pixel());
                fill(e, behind, gap, bias);
            });
        });
    }
}

/// Fills `bytes` (a multiple of 16) with zero.
pub(super) fn clear(e: &mut Emitter<'_, '_>, base: Value, bytes: usize) {
    fill(e, base, bytes, 0);
}

/// Fills `bytes`, up to a multiple of 16, with one value.
fn fill(e: &mut Emitter<'_, '_>, base: Value, bytes: usize, value: u8) {
    let all = e.splat_i32(i32::from_ne_bytes([value; 4]));
    e.times(bytes.div_ceil(VECTOR), |e, i| {
        let at = e.at(base, i, VECTOR);
        e.store(all, at, 0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::products::testing::{Code, Memory, build};
    use crate::codegen::target::Level;
    use crate::lower::train::layouts::Storage;

    /// All but the channels' levels is level 0 afterwards, and nothing is written beyond the end but the rest of a vector.
    #[test]
    fn all_but_the_levels_is_filled() {
        let level = Level::parse("x86-64-v2", &"x86_64-unknown-linux-gnu".parse().unwrap()).unwrap().remove(0);
        let bytes = |bias| Storage::Bytes { bias };
        let shapes = [
            (48, 1, [3, 4], [1, 1, 1, 1], bytes(0)),
            (48, 1, [3, 4], [0; 4], bytes(0)),
            (48, 1, [1, 1], [0; 4], bytes(0)),
            (64, 1, [5, 2], [1, 2, 0, 3], bytes(63)),
            (64, 1, [4, 3], [0, 5, 0, 0], bytes(1)),
            (37, 1, [4, 5], [2, 0, 1, 0], bytes(63)),
            (3, 1, [4, 5], [1, 0, 1, 1], bytes(3)),
            (10, 2, [3, 3], [1, 1, 1, 1], bytes(0)),
            (17, 1, [2, 7], [0, 1, 2, 0], Storage::Words),
            (16, 2, [2, 3], [0; 4], Storage::Words),
        ];
        for (channels, groups, image, border, storage) in shapes {
            let levels = Levels::new(channels, groups, image, border, storage).unwrap();
            let end = levels.bytes().next_multiple_of(VECTOR);
            let memory = Memory::new(end + 64, 0x55);
            Code::new(&build(&level, false, 1, |e, p| surround(e, &levels, p[0]))).call(&[memory.address()]);
            let mut stored = vec![false; levels.bytes()];
            for (y, x) in (0..image[0]).flat_map(|y| (0..image[1]).map(move |x| (y, x))) {
                for channel in 0..channels {
                    let pixel = levels.origin() + y * levels.row() + x * levels.pixel();
                    let at = pixel + levels.slot(channel) * storage.size();
                    stored[at..at + storage.size()].fill(true);
                }
            }
            // Without a gap or a border there is nothing to fill.
            if stored[..stored.len() - levels.behind()].iter().any(|s| !s) {
                let wrong = stored.iter().zip(memory.bytes()).position(|(s, &b)| !s && b != storage.bias());
                assert_eq!(wrong, None, "{levels:?}");
            }
            assert!(memory.bytes()[end..end + 64].iter().all(|&b| b == 0x55), "{levels:?}");
        }
    }
}
