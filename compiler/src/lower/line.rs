//! Thresholds that lie on a line: those of a quantiser behind an affine function, which most are. How many of them an accumulator
//! reaches is then ⌊slope·acc + offset⌋ between 0 and their number, one multiplication instead of as many comparisons as there are
//! thresholds. The floats are proved here, threshold by threshold; where no line fits, there is none. Must never know an
//! instruction set.

/// Thresholds below which comparing with each costs no more.
const FEWEST: usize = 4;
/// Steps of the search for the best slope, which thirds what is left.
const STEPS: usize = 80;

/// A point that a line must pass: at the accumulator the code is at least, or less than, so much.
#[derive(Clone, Copy)]
struct Bound {
    at: i64,
    code: usize,
    reached: bool,
}

/// For each output the slope and the offset of its line: `rows` are thresholds (O, top + 1), direction last, of accumulators
/// `lo` … `hi`. The code is ⌊slope·acc + offset⌋ in f32, rounded after the multiplication and after the addition, then limited to
/// 0 … `top`. `None` where there are few thresholds or those of an output lie on no line.
pub fn lines(rows: &[i64], top: usize, [lo, hi]: [i64; 2]) -> Option<Vec<[f32; 2]>> {
    if top < FEWEST {
        return None;
    }
    rows.chunks(top + 1).map(|row| line(row, [lo, hi])).collect()
}

/// The line of one output.
fn line(row: &[i64], [lo, hi]: [i64; 2]) -> Option<[f32; 2]> {
    let (&direction, row) = row.split_last()?;
    // A falling channel counts thresholds of the negated accumulator.
    let [lo, hi] = if direction < 0 { [hi.checked_neg()?, lo.checked_neg()?] } else { [lo, hi] };
    let mut sorted = row.to_vec();
    sorted.sort_unstable();
    let bounds: Vec<Bound> = sorted
        .iter()
        .enumerate()
        .flat_map(|(i, &t)| {
            let code = i + 1;
            let reached = (t <= hi).then_some(Bound { at: t.max(lo), code, reached: true });
            let missed = (t > lo).then(|| Bound { at: t.saturating_sub(1).min(hi), code, reached: false });
            [reached, missed].into_iter().flatten()
        })
        .collect();
    let [slope, offset] = widest(&bounds)?.map(|v| v as f32);
    let holds = |b: &Bound| (b.at as f32 * slope + offset >= b.code as f32) == b.reached;
    bounds.iter().all(holds).then_some([if direction < 0 { -slope } else { slope }, offset])
}

/// Slope and offset in the middle of where all bounds hold by the most; `None` where they hold nowhere.
fn widest(bounds: &[Bound]) -> Option<[f64; 2]> {
    // The offsets that a slope allows; the room between them is concave in the slope.
    let offsets = |slope: f64| {
        bounds.iter().fold([f64::NEG_INFINITY, f64::INFINITY], |[from, to], b| {
            let offset = b.code as f64 - slope * b.at as f64;
            if b.reached { [from.max(offset), to] } else { [from, to.min(offset)] }
        })
    };
    let room = |slope: f64| {
        let [from, to] = offsets(slope);
        to - from
    };
    let top = bounds.iter().map(|b| b.code).max().unwrap_or(0) as f64;
    let [mut least, mut greatest] = [0.0, 2.0 * top + 2.0];
    for _ in 0..STEPS {
        let third = (greatest - least) / 3.0;
        let [a, b] = [least + third, greatest - third];
        if room(a) < room(b) { least = a } else { greatest = b }
    }
    let slope = (least + greatest) / 2.0;
    match offsets(slope) {
        [from, to] if from >= to => None,
        // Every code is the least, or the greatest.
        [f64::NEG_INFINITY, f64::INFINITY] => Some([0.0, 0.0]),
        [f64::NEG_INFINITY, _] => Some([0.0, 0.0]),
        [_, f64::INFINITY] => Some([0.0, top]),
        [from, to] => Some([slope, (from + to) / 2.0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code by the definition, and by the line.
    fn codes(row: &[i64], line: [f32; 2], acc: i64) -> [usize; 2] {
        let (direction, thresholds) = row.split_last().unwrap();
        let counted = thresholds.iter().filter(|&&t| acc * direction >= t).count();
        let along = (acc as f32 * line[0] + line[1]).clamp(0.0, thresholds.len() as f32);
        [counted, along as usize]
    }

    #[test]
    fn quantisers_lie_on_lines() {
        for (scale, shift, top, direction) in
            [(0.003, -0.2, 15, 1), (0.017, 0.4, 7, -1), (1.3, 0.0, 15, 1), (0.00021, 0.51, 255, 1), (0.2, 7.0, 4, -1)]
        {
            let range = [-4000i64, 5000];
            let code = |x: i64| (f64::from(top) * (x as f64 * scale + shift).clamp(0.0, 1.0)).round() as i64;
            let ends = if direction < 0 { [-range[1], -range[0]] } else { range };
            let mut row: Vec<i64> =
                (1..=i64::from(top)).map(|j| (ends[0]..=ends[1]).find(|&x| code(x) >= j).unwrap_or(1 << 40)).collect();
            row.push(direction);
            let lines = lines(&row, top as usize, range).unwrap_or_else(|| panic!("{scale} {shift}: no line"));
            for acc in range[0]..=range[1] {
                let [counted, along] = codes(&row, lines[0], acc);
                assert_eq!(counted, along, "{scale} {shift} {top} {direction}: {acc}");
            }
        }
    }

    #[test]
    fn what_lies_on_no_line_has_none() {
        let range = [-1000, 1000];
        assert_eq!(lines(&[0, 10, 20, 500, 1], 4, range), None);
        assert_eq!(lines(&[0, 10, 20, 1], 3, range), None, "few");
        // Beyond 2²⁴ neighbouring accumulators are one float.
        let far: Vec<i64> = (0..15).map(|j| (1 << 28) + 1 + 1000 * j).chain([1]).collect();
        assert_eq!(lines(&far, 15, [0, 1 << 30]), None);
    }

    #[test]
    fn thresholds_that_no_accumulator_passes_do_not_matter() {
        let range = [-20, 30];
        for row in [[-900, -15, 5, 25, 300, 1], [-900, -800, -700, -600, -500, 1], [200, 300, 400, 500, 600, -1]] {
            let line = lines(&row, 5, range).unwrap();
            for acc in -20..=30 {
                let [counted, along] = codes(&row, line[0], acc);
                assert_eq!(counted, along, "{row:?}: {acc}");
            }
        }
    }
}
