//! Draws one digit: strokes, bent and slanted at random, on a noisy ground.
//!
//! Only + − × ÷ and √ on f32, in a fixed order: every machine draws the same bytes.

use super::SIDE;
use super::glyphs::{GLYPHS, Point, Stroke};
use crate::data::random::Draws;

/// The square of a distance that no pixel has.
const FAR: f32 = 1e9;

/// The places that a picture's points move to, all drawn at random.
struct Bend {
    /// Linear part: scale, rotation and slant.
    matrix: [f32; 4],
    /// Middle of the digit in pixels.
    middle: Point,
    /// Bending: how far the square of one coordinate moves the other.
    bow: Point,
    /// Greatest shift of a single point.
    jitter: f32,
}

impl Bend {
    fn draw(draws: &mut Draws) -> Self {
        let side = SIDE as f32;
        let (height, narrow) = (side * draws.between(0.42, 0.68) / 1.4, draws.between(0.6, 1.1));
        // sine and cosine from the tangent of half the angle, up to ±20°.
        let t = draws.between(-0.18, 0.18);
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let slant = draws.between(-0.35, 0.35);
        let (x, y) = (height * narrow, height);
        let matrix = [cos * x, (cos * slant - sin) * y, sin * x, (sin * slant + cos) * y];
        let mut off = || draws.between(-0.1, 0.1) * side;
        let middle = [side * 0.5 + off(), side * 0.5 + off()];
        let bow = [draws.between(-0.25, 0.25), draws.between(-0.25, 0.25)];
        Bend { matrix, middle, bow, jitter: draws.between(0.0, 0.12) }
    }

    fn apply(&self, point: Point, draws: &mut Draws) -> Point {
        let mut moved = |v: f32| v + draws.between(-1.0, 1.0) * self.jitter;
        let (u, v) = (moved(point[0] - 0.5), moved(point[1] - 0.7));
        let (u, v) = (u + self.bow[0] * v * v, v + self.bow[1] * u * u);
        let [a, b, c, d] = self.matrix;
        [self.middle[0] + a * u + b * v, self.middle[1] + c * u + d * v]
    }
}

/// Cuts the corners of a chain once (Chaikin); the ends stay.
fn smooth(chain: &[Point]) -> Vec<Point> {
    let blend = |a: Point, b: Point, t: f32| [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
    let mut out = Vec::with_capacity(2 * chain.len());
    out.extend(chain.first());
    for pair in chain.windows(2) {
        if let &[a, b] = pair {
            out.extend([blend(a, b, 0.25), blend(a, b, 0.75)]);
        }
    }
    out.extend(chain.last());
    out
}

/// Lowers `squares`, each pixel's squared distance, to that from the segment a–b where this is nearer than `reach`.
fn segment(squares: &mut [f32], a: Point, b: Point, reach: f32) {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx * dx + dy * dy;
    let inverse = if length > 0.0 { 1.0 / length } else { 0.0 };
    let span = |p: f32, q: f32| {
        let (lo, hi) = (p.min(q) - reach, p.max(q) + reach);
        (lo.max(0.0) as usize).min(SIDE)..((hi + 1.0).max(0.0) as usize).min(SIDE)
    };
    let columns = span(a[0], b[0]);
    for y in span(a[1], b[1]) {
        let py = y as f32 + 0.5 - a[1];
        let row = squares.get_mut(y * SIDE..(y + 1) * SIDE).and_then(|row| row.get_mut(columns.clone()));
        for (x, square) in columns.clone().zip(row.unwrap_or_default()) {
            let px = x as f32 + 0.5 - a[0];
            let t = ((px * dx + py * dy) * inverse).clamp(0.0, 1.0);
            let (ex, ey) = (px - t * dx, py - t * dy);
            *square = square.min(ex * ex + ey * ey);
        }
    }
}

/// Draws chains of points of half the thickness `radius` as coverage, 0 to 1 a pixel.
fn coverage(chains: &[Vec<Point>], radius: f32) -> Vec<f32> {
    let mut squares = vec![FAR; SIDE * SIDE];
    for pair in chains.iter().flat_map(|chain| chain.windows(2)) {
        if let &[a, b] = pair {
            segment(&mut squares, a, b, radius + 1.0);
        }
    }
    squares.iter().map(|&square| (radius + 0.5 - square.sqrt()).clamp(0.0, 1.0)).collect()
}

/// Short strokes that belong to no digit.
fn clutter(draws: &mut Draws) -> Vec<Vec<Point>> {
    let side = SIDE as f32;
    let count = draws.below(4);
    let line = |draws: &mut Draws| {
        let start = [draws.between(0.0, side), draws.between(0.0, side)];
        let end = [start[0] + draws.between(-6.0, 6.0), start[1] + draws.between(-6.0, 6.0)];
        vec![start, end]
    };
    (0..count).map(|_| line(draws)).collect()
}

/// The picture of `digit` that `draws` give: SIDE×SIDE bytes.
pub(super) fn draw(digit: usize, draws: &mut Draws) -> Vec<u8> {
    let ways = GLYPHS.get(digit).copied().unwrap_or_default();
    let glyph: &[Stroke] = ways.get(draws.below(ways.len())).copied().unwrap_or_default();
    let bend = Bend::draw(draws);
    let mut chains = Vec::with_capacity(glyph.len());
    for stroke in glyph {
        let points: Vec<Point> = stroke.iter().map(|&p| bend.apply(p, draws)).collect();
        chains.push(smooth(&smooth(&points)));
    }
    let ink = coverage(&chains, draws.between(0.5, 1.7));
    let lines = clutter(draws);
    let stray = coverage(&lines, draws.between(0.4, 1.2));

    // A bright digit on a dark ground, a quarter of them the other way round.
    let contrast = draws.between(50.0, 200.0) * if draws.below(4) == 0 { -1.0 } else { 1.0 };
    let ground = if contrast > 0.0 { draws.between(0.0, 255.0 - contrast) } else { draws.between(-contrast, 255.0) };
    let slope = [draws.between(-2.0, 2.0), draws.between(-2.0, 2.0)];
    let weight = draws.between(0.3, 0.9);
    let noise = draws.between(4.0, 40.0);
    let half = SIDE as f32 * 0.5;
    let pixels = ink.iter().zip(&stray).enumerate();
    pixels
        .map(|(i, (&ink, &stray))| {
            let (x, y) = ((i % SIDE) as f32 - half, (i / SIDE) as f32 - half);
            let grain = (draws.unit() + draws.unit() - 1.0) * noise;
            let paint = ink.max(stray * weight) * contrast;
            (ground + slope[0] * x + slope[1] * y + paint + grain).clamp(0.0, 255.0) as u8
        })
        .collect()
}
