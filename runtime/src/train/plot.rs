//! Loss and accuracy over the epochs as an SVG picture.

use super::history::Record;
use std::fmt::Write;

/// Extents of a panel's axes and where its frame begins.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 36.0;
/// Distance from one panel to the next.
const PANEL: f64 = WIDTH + LEFT + 36.0;
/// Colours of training and validation.
const COLOURS: [&str; 2] = ["#1f77b4", "#d62728"];

/// A curve: its colour and its points (epoch, value).
type Curve = (&'static str, Vec<(f64, f64)>);

/// The picture of a training's epochs.
pub fn svg(title: &str, records: &[Record]) -> String {
    let (width, height) = (2.0 * PANEL, HEIGHT + TOP + 60.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>", escape(title));
    let curves = |train: fn(&Record) -> f64, validation: fn(&(f64, f64)) -> f64| -> [Curve; 2] {
        let seen = records.iter().map(|r| (r.epoch as f64, train(r))).collect();
        let held_out = records.iter().filter_map(|r| r.validation.as_ref().map(|v| (r.epoch as f64, validation(v))));
        [(COLOURS[0], seen), (COLOURS[1], held_out.collect())]
    };
    panel(&mut out, 0.0, "loss", &curves(|r| r.loss, |v| v.0));
    panel(&mut out, PANEL, "accuracy", &curves(|r| r.accuracy, |v| v.1));
    out.push_str("</svg>\n");
    out
}

/// One pair of axes with its curves.
fn panel(out: &mut String, left: f64, name: &str, curves: &[Curve]) {
    let left = left + LEFT;
    let points = || curves.iter().flat_map(|(_, points)| points);
    let last = points().map(|p| p.0).fold(2.0, f64::max);
    let (lo, hi) = bounds(points().map(|p| p.1));
    let x = |epoch: f64| left + (epoch - 1.0) / (last - 1.0) * WIDTH;
    let y = |value: f64| TOP + (hi - value) / (hi - lo) * HEIGHT;
    let _ = writeln!(
        out,
        "<rect x=\"{left}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#888\"/>"
    );
    for value in ticks(lo, hi) {
        let at = y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}h{WIDTH}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            number(value)
        );
    }
    for epoch in ticks(1.0, last).filter(|e| e.fract() == 0.0) {
        let (at, below) = (x(epoch), TOP + HEIGHT + 16.0);
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", number(epoch));
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">epoch</text><text x=\"{left}\" y=\"{}\">{name}</text>",
        left + WIDTH / 2.0,
        TOP + HEIGHT + 34.0,
        TOP + HEIGHT + 34.0
    );
    for (i, ((colour, points), label)) in curves.iter().zip(["training", "validation"]).enumerate() {
        let Some(end) = points.last() else { continue };
        let path: Vec<_> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{TOP}\" dy=\"-6\" text-anchor=\"end\" fill=\"{colour}\">{label}</text>",
            path.join(" "),
            x(end.0),
            y(end.1),
            left + WIDTH - 80.0 * (1 - i) as f64
        );
    }
}

/// Bounds that hold all finite values with a margin, never equal.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let range = values
        .filter(|v| v.is_finite())
        .fold(None, |range: Option<(f64, f64)>, v| Some(range.map_or((v, v), |(lo, hi)| (lo.min(v), hi.max(v)))));
    let (lo, hi) = range.unwrap_or((0.0, 1.0));
    let margin = if hi > lo { (hi - lo) * 0.05 } else { lo.abs().max(1.0) * 0.1 };
    (lo - margin, hi + margin)
}

/// About five round numbers from `lo` to `hi`.
fn ticks(lo: f64, hi: f64) -> impl Iterator<Item = f64> {
    // Powers of ten by division, so that 0.1 is 0.1.
    let power = |e: i32| if e < 0 { 1.0 / 10f64.powi(-e) } else { 10f64.powi(e) };
    let unit = (-12..=12).map(power).take_while(|unit| *unit <= hi - lo).last().unwrap_or(1e-12);
    let step = [0.2, 0.5, 1.0, 2.0].iter().map(|f| f * unit).find(|s| (hi - lo) / s <= 6.0).unwrap_or(unit * 5.0);
    let first = (lo / step).ceil();
    (0..8).map(move |i| (first + f64::from(i)) * step).take_while(move |v| *v <= hi)
}

fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_both_panels_and_finite_coordinates() {
        let record = |epoch: u64, loss: f64| Record {
            epoch,
            step: epoch,
            lr: 0.1,
            loss,
            accuracy: 0.5,
            validation: (epoch > 1).then_some((loss, 0.4)),
            images_per_s: None,
        };
        for records in [vec![], vec![record(1, 2.0)], (1..30).map(|e| record(e, 1.0 / e as f64)).collect::<Vec<_>>()] {
            let text = svg("a <net>", &records);
            assert!(text.contains(">loss<") && text.contains(">accuracy<") && text.contains("a &lt;net&gt;"));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            let curves = records.iter().any(|r| r.validation.is_some());
            assert_eq!(
                text.matches("<polyline").count(),
                2 * usize::from(!records.is_empty()) + 2 * usize::from(curves)
            );
            assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.0, 1.0).collect::<Vec<_>>(), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        for (lo, hi) in [(0.1, 0.93), (1.0, 30.0), (-1e-3, 1e-3), (1.9, 2.1), (0.0, 1e6)] {
            let found = ticks(lo, hi).count();
            assert!((2..=7).contains(&found), "{lo} {hi}: {found}");
        }
    }
}
