//! The dot products of AVX-VNNI, on vectors of 32-bit lanes.

/// What a lane adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dot {
    /// Products of four bytes, the first operand's without a sign, the second's with; else of two signed words.
    pub bytes: bool,
    /// Whether the sum saturates; else it wraps.
    pub saturates: bool,
}

impl Dot {
    /// Adds the products of `a` and `b` to the lanes of `sums`.
    pub fn add(self, sums: &mut [u8; 32], a: &[u8; 32], b: &[u8; 32]) {
        let lanes = sums.as_chunks_mut::<4>().0.iter_mut().zip(a.as_chunks::<4>().0).zip(b.as_chunks::<4>().0);
        for ((sum, a), b) in lanes {
            let products: i64 = if self.bytes {
                a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b.cast_signed())).sum()
            } else {
                let words = |lane: &[u8; 4]| [[lane[0], lane[1]], [lane[2], lane[3]]].map(i16::from_le_bytes);
                words(a).into_iter().zip(words(b)).map(|(a, b)| i64::from(a) * i64::from(b)).sum()
            };
            let exact = i64::from(i32::from_le_bytes(*sum)) + products;
            let kept = exact.clamp(i32::MIN.into(), i32::MAX.into());
            *sum = (if self.saturates { kept as i32 } else { exact as i32 }).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(of: impl Fn(usize) -> [u8; 4]) -> [u8; 32] {
        let mut vector = [0; 32];
        vector.as_chunks_mut::<4>().0.iter_mut().enumerate().for_each(|(i, lane)| *lane = of(i));
        vector
    }

    #[test]
    fn bytes_and_words() {
        let a = lanes(|_| [255, 1, 128, 2]);
        let b = lanes(|i| [i as u8, 0xff, 0x80, 3]);
        let of_bytes = |i: i32| 255 * i - 1 - 128 * 128 + 6;
        let of_words = |i: i32| 511 * (i - 256) + 640 * 896;
        for bytes in [true, false] {
            let want = |i| if bytes { of_bytes(i) } else { of_words(i) };
            let mut sums = lanes(|i| (i as i32 - 4).to_le_bytes());
            Dot { bytes, saturates: false }.add(&mut sums, &a, &b);
            for (i, sum) in sums.as_chunks::<4>().0.iter().enumerate() {
                assert_eq!(i32::from_le_bytes(*sum), i as i32 - 4 + want(i as i32), "{bytes} {i}");
            }
        }
    }

    #[test]
    fn saturates_or_wraps() {
        let (a, b) = (lanes(|_| [255; 4]), lanes(|i| [if i % 2 == 0 { 127 } else { 128 }; 4]));
        for saturates in [true, false] {
            let mut sums = lanes(|i| (if i % 2 == 0 { i32::MAX } else { i32::MIN }).to_le_bytes());
            Dot { bytes: true, saturates }.add(&mut sums, &a, &b);
            let [up, down] = [0, 4].map(|at| i32::from_le_bytes([sums[at], sums[at + 1], sums[at + 2], sums[at + 3]]));
            let wrapped = [i32::MAX.wrapping_add(4 * 255 * 127), i32::MIN.wrapping_sub(4 * 255 * 128)];
            assert_eq!([up, down], if saturates { [i32::MAX, i32::MIN] } else { wrapped });
        }
    }
}
