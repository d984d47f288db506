//! Bilinear resizing of planes: ONNX's `Resize` in mode `linear` with `half_pixel` coordinates and no antialias.

/// Where one output coordinate reads: the two neighbours and the second one's share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tap {
    low: usize,
    high: usize,
    share: f32,
}

/// The taps of one axis, from extent `from` to extent `to`: source = (i + ½)·from/to − ½, limited to the picture.
fn taps(from: usize, to: usize) -> Vec<Tap> {
    let (ratio, last) = (from as f32 / to as f32, from.saturating_sub(1));
    let tap = |i: usize| {
        let at = ((i as f32 + 0.5) * ratio - 0.5).clamp(0.0, last as f32);
        let low = (at as usize).min(last);
        Tap { low, high: (low + 1).min(last), share: at - low as f32 }
    };
    (0..to).map(tap).collect()
}

/// Resizes `planes`, any number of channels of `from` (height, width), to `to`: rows first, then columns, each
/// a + (b − a)·share. Equal extents leave every value as it is.
pub fn bilinear(planes: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let ([height, width], [rows, columns]) = (from, to);
    let (rows, columns) = (taps(height, rows), taps(width, columns));
    let mut line = vec![0.0; width];
    let mut out = Vec::with_capacity(planes.len() / (height * width).max(1) * rows.len() * columns.len());
    for plane in planes.chunks_exact((height * width).max(1)) {
        let row = |y: usize| plane.get(y * width..(y + 1) * width).unwrap_or_default();
        for tap in &rows {
            let pairs = row(tap.low).iter().zip(row(tap.high));
            line.iter_mut().zip(pairs).for_each(|(x, (a, b))| *x = a + (b - a) * tap.share);
            let at = |x: usize| line.get(x).copied().unwrap_or_default();
            out.extend(columns.iter().map(|c| at(c.low) + (at(c.high) - at(c.low)) * c.share));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of ONNX's own test `resize_upsample_scales_linear` and a shrinking one.
    #[test]
    fn agrees_with_onnx() {
        let up = bilinear(&[1.0, 2.0, 3.0, 4.0], [2, 2], [4, 4]);
        assert_eq!(up, [1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0]);
        let down = bilinear(&(1..=8).map(|v| v as f32).collect::<Vec<_>>(), [2, 4], [1, 2]);
        assert_eq!(down, [3.5, 5.5]);
    }

    #[test]
    fn the_same_size_changes_nothing_and_channels_stay_apart() {
        let x: Vec<f32> = (0..24).map(|v| (v * v) as f32).collect();
        assert_eq!(bilinear(&x, [3, 4], [3, 4]), x);
        assert_eq!(bilinear(&[1.0, 5.0], [1, 1], [2, 1]), [1.0, 1.0, 5.0, 5.0]);
        assert!(bilinear(&[], [0, 0], [2, 2]).is_empty());
    }
}
