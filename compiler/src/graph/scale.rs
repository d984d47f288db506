//! Exact positive scales. A scale is a rational times a power of two, so that 1/3 is not f32(1/3) and the product of a
//! weight scale and an activation scale is exact until it is rounded, once, to f64 (numerics contract, rule 2).

use std::fmt;
use std::str::FromStr;

/// Numerator and denominator stay below 2⁹⁶, which leaves room for the long division of [`Scale::to_f64`].
const LIMIT: u128 = 1 << 96;

/// The exact positive number `num / den · 2^exp`; `num` and `den` are odd and have no common factor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Scale {
    num: u128,
    den: u128,
    exp: i32,
}

impl Scale {
    /// The number one.
    pub const ONE: Scale = Scale { num: 1, den: 1, exp: 0 };

    fn reduced(mut num: u128, mut den: u128, mut exp: i32) -> Option<Scale> {
        if num == 0 || den == 0 {
            return None;
        }
        let (n, d) = (num.trailing_zeros(), den.trailing_zeros());
        num >>= n;
        den >>= d;
        exp = exp.checked_add(n as i32)?.checked_sub(d as i32)?;
        let (mut a, mut b) = (num, den);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        num /= a;
        den /= a;
        (num < LIMIT && den < LIMIT && exp.unsigned_abs() < 900).then_some(Scale { num, den, exp })
    }

    /// `num / den`; `None` where either is zero.
    pub fn ratio(num: u64, den: u64) -> Option<Scale> {
        Self::reduced(num.into(), den.into(), 0)
    }

    /// 2^`exp`; `None` where that is beyond what a scale holds.
    pub fn power_of_two(exp: i32) -> Option<Scale> {
        Self::reduced(1, 1, exp)
    }

    /// The exact value of a positive finite float; `None` otherwise.
    pub fn from_f32(value: f32) -> Option<Scale> {
        if !(value.is_finite() && value > 0.0) {
            return None;
        }
        let bits = value.to_bits();
        let (e, m) = ((bits >> 23) as i32, u128::from(bits & 0x7f_ffff));
        if e == 0 { Self::reduced(m, 1, -149) } else { Self::reduced(m | 0x80_0000, 1, e - 150) }
    }

    /// The exact product; `None` where it needs more than 96 bits.
    pub fn times(self, other: Scale) -> Option<Scale> {
        // Cross-reduce first: the products then stay small where the result does.
        let a = Self::reduced(self.num, other.den, 0)?;
        let b = Self::reduced(other.num, self.den, 0)?;
        let num = a.num.checked_mul(b.num)?;
        let den = a.den.checked_mul(b.den)?;
        Self::reduced(num, den, self.exp.checked_add(other.exp)?)
    }

    /// The exact reciprocal.
    pub fn inverse(self) -> Scale {
        Scale { num: self.den, den: self.num, exp: -self.exp }
    }

    /// The quotient as an integer, if it is one that fits i32.
    pub fn integer_ratio(self, unit: Scale) -> Option<i32> {
        let q = self.times(unit.inverse())?;
        if q.den != 1 || q.exp < 0 || q.exp > 30 {
            return None;
        }
        i32::try_from(q.num.checked_shl(q.exp as u32)?).ok()
    }

    /// Numerator and denominator, the power of two in whichever keeps it an integer, each rounded to f64: what decode
    /// multiplies by and divides by where factors are known only at run time.
    pub fn parts(self) -> (f64, f64) {
        let power = |e: i32| 2f64.powi(e.max(0));
        (self.num as f64 * power(self.exp), self.den as f64 * power(-self.exp))
    }

    /// The value rounded once, to nearest even, to f64.
    pub fn to_f64(self) -> f64 {
        let (mut q, mut r, mut e) = (self.num / self.den, self.num % self.den, self.exp);
        let mut sticky = false;
        while q >= 1 << 56 {
            sticky |= q & 1 == 1;
            q >>= 1;
            e += 1;
        }
        if sticky {
            r = 1;
        }
        while q < 1 << 55 {
            r <<= 1;
            let bit = r >= self.den;
            if bit {
                r -= self.den;
            }
            q = q << 1 | u128::from(bit);
            e -= 1;
        }
        let q = q as u64 | u64::from(r != 0);
        q as f64 * 2f64.powi(e)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.num)?;
        if self.den != 1 {
            write!(f, "/{}", self.den)?;
        }
        if self.exp != 0 {
            write!(f, "*2^{}", self.exp)?;
        }
        Ok(())
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Scale, String> {
        let bad = || format!("`{text}` is not a scale like 1/3 or 13/5*2^-7");
        let (ratio, exp) = match text.split_once("*2^") {
            Some((ratio, exp)) => (ratio, exp.parse().map_err(|_| bad())?),
            None => (text, 0),
        };
        let (num, den) = ratio.split_once('/').unwrap_or((ratio, "1"));
        let num = num.trim().parse().map_err(|_| bad())?;
        let den = den.trim().parse().map_err(|_| bad())?;
        Scale::reduced(num, den, exp).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_once() {
        assert_eq!(Scale::ratio(1, 3).map(Scale::to_f64), Some(1.0 / 3.0));
        assert_eq!(Scale::ratio(2, 255).map(Scale::to_f64), Some(2.0 / 255.0));
        for v in [0.1f32, 1.0, 3.5e-12, 7.25e9, f32::MIN_POSITIVE] {
            assert_eq!(Scale::from_f32(v).map(Scale::to_f64), Some(f64::from(v)));
        }
    }

    #[test]
    fn products_are_exact_and_print() {
        let a = Scale::from_f32(0.1).and_then(|s| s.times(Scale::ratio(1, 3)?));
        let a = a.expect("small enough");
        assert_eq!(a.to_f64(), f64::from(0.1f32) / 3.0);
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_eq!(a.times(a.inverse()), Some(Scale::ONE));
        for extreme in ["1*2^-2147483648", "1*2^2147483647", "2/1*2^2147483647", "1/2*2^-2147483648", "1*2^900"] {
            assert!(extreme.parse::<Scale>().is_err(), "{extreme}");
        }
    }
}
