//! How the learning rate changes over a training. Only + − × ÷: the same rates on every machine.

use std::fmt;
use std::str::FromStr;

/// A factor of the learning rate for each step: warm-up times shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub shape: Shape,
    /// Epochs over which the rate rises linearly from 0; 0 is none.
    pub warmup: f64,
}

/// The course of the learning rate after the warm-up. Epochs may be fractions.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Shape {
    /// Stays.
    #[default]
    Constant,
    /// Times `factor` at each of the `epochs`.
    Step {
        /// Epochs that must have passed.
        epochs: Vec<f64>,
        /// Factor at each.
        factor: f64,
    },
    /// Times `factor` after every `every` epochs: a staircase.
    Exponential {
        /// Factor at each stair.
        factor: f64,
        /// Epochs of a stair.
        every: f64,
    },
    /// Half a cosine from 1 to `end` at the last step.
    Cosine {
        /// The factor at the end, 0 … 1.
        end: f64,
    },
}

/// (1 + cos(π·x))/2 for 0 ≤ x ≤ 1.
fn half_cosine(x: f64) -> f64 {
    // cos is odd around ½: reduce to 0 … ½, where eleven terms of the Taylor series are exact to 1e-15.
    let reduced = if x > 0.5 { 1.0 - x } else { x };
    let square = (std::f64::consts::PI * reduced) * (std::f64::consts::PI * reduced);
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..=11 {
        term *= -square / f64::from((2 * k - 1) * (2 * k));
        sum += term;
    }
    (1.0 + if x > 0.5 { -sum } else { sum }) / 2.0
}

/// `base` to a whole power, by squaring.
fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left != 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

impl Schedule {
    /// The factor of `step` (from 1) in a training of `epochs` epochs of `per_epoch` steps.
    pub fn factor(&self, step: u64, per_epoch: u64, epochs: u64) -> f64 {
        let per_epoch = per_epoch.max(1);
        let rise = (self.warmup * per_epoch as f64).round() as u64;
        let passed = step.saturating_sub(1) as f64 / per_epoch as f64;
        let shape = match &self.shape {
            Shape::Constant => 1.0,
            Shape::Step { epochs, factor } => power(*factor, epochs.iter().filter(|e| passed >= **e).count() as u64),
            Shape::Exponential { factor, every } => power(*factor, (passed / every).floor() as u64),
            Shape::Cosine { end } => {
                let span = epochs.saturating_mul(per_epoch).saturating_sub(rise).max(1);
                let done = step.saturating_sub(1).saturating_sub(rise).min(span);
                end + (1.0 - end) * half_cosine(done as f64 / span as f64)
            }
        };
        if step < rise { shape * (step as f64 / rise as f64) } else { shape }
    }

    /// Whether the rates depend on the number of epochs, so that a training cannot be prolonged.
    pub fn needs_epochs(&self) -> bool {
        matches!(self.shape, Shape::Cosine { .. })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Constant => f.write_str("constant"),
            Shape::Step { epochs, factor } => {
                let epochs: Vec<_> = epochs.iter().map(f64::to_string).collect();
                write!(f, "step:{}:{factor}", epochs.join(","))
            }
            Shape::Exponential { factor, every } => write!(f, "exponential:{factor}:{every}"),
            Shape::Cosine { end } if *end == 0.0 => f.write_str("cosine"),
            Shape::Cosine { end } => write!(f, "cosine:{end}"),
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    /// `constant`, `step:EPOCH,…:FACTOR`, `exponential:FACTOR:EPOCHS`, `cosine` or `cosine:END`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "schedule `{text}` is not understood; write constant, step:EPOCH,EPOCH:FACTOR, \
                 exponential:FACTOR:EPOCHS, cosine or cosine:END"
            )
        };
        let number = |t: &str, least: f64| t.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= least);
        let parts: Vec<_> = text.split(':').collect();
        let shape = match *parts {
            ["constant"] => Some(Shape::Constant),
            ["step", epochs, factor] => {
                let epochs = epochs.split(',').map(|e| number(e, 0.0)).collect::<Option<Vec<_>>>();
                epochs.zip(number(factor, 0.0)).map(|(epochs, factor)| Shape::Step { epochs, factor })
            }
            ["exponential", factor, every] => number(factor, 0.0)
                .zip(number(every, f64::MIN_POSITIVE))
                .map(|(factor, every)| Shape::Exponential { factor, every }),
            ["cosine"] => Some(Shape::Cosine { end: 0.0 }),
            ["cosine", end] => number(end, 0.0).filter(|e| *e <= 1.0).map(|end| Shape::Cosine { end }),
            _ => None,
        };
        shape.ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(shape: &str, warmup: f64, steps: std::ops::RangeInclusive<u64>) -> Vec<f64> {
        let schedule = Schedule { shape: shape.parse().unwrap(), warmup };
        steps.map(|s| schedule.factor(s, 2, 4)).collect()
    }

    #[test]
    fn shapes_follow_their_definitions() {
        assert_eq!(factors("constant", 0.0, 1..=3), [1.0; 3]);
        assert_eq!(factors("constant", 2.0, 1..=5), [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(factors("step:1,2.5:0.5", 0.0, 1..=7), [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
        assert_eq!(factors("exponential:0.5:1", 0.0, 1..=6), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
        let cosine = factors("cosine:0.1", 1.0, 1..=8);
        assert_eq!((cosine[0], cosine[1], cosine[2]), (0.5, 1.0, 1.0));
        for (i, got) in cosine.iter().enumerate().skip(2) {
            let want = 0.1 + 0.9 * (1.0 + (std::f64::consts::PI * (i - 2) as f64 / 6.0).cos()) / 2.0;
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
        assert_eq!((half_cosine(0.0), half_cosine(1.0)), (1.0, 0.0));
    }

    #[test]
    fn texts_parse_and_print() {
        for text in ["constant", "step:30,60.5:0.1", "exponential:0.94:2", "cosine", "cosine:0.01"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        for bad in ["", "linear", "step", "step:a:1", "step:1:nan", "exponential:0.5:0", "cosine:2", "cosine:0:1"] {
            assert!(bad.parse::<Shape>().unwrap_err().contains("not understood"), "{bad}");
        }
    }
}
