//! The noise of training: a counter-based hash of (seed, step, place, sample, element), so that no state but the step's
//! number is carried, and any thread may draw any element. Pure functions; they know no graph and no operator.
//!
//! Generated code computes the same: [`key`] once a sample in 64-bit, [`bits`] per element in 32-bit wrapping arithmetic.

/// Finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The key of one sample at one place: k = 0, then k = mix((k ^ v) + 0x9e3779b97f4a7c15) for v in `seed[0]`, `seed[1]`,
/// `step`, `place`, `sample`; its low and its high 32 bits. `sample` counts from the start of the whole batch, also where
/// the batch is computed in parts.
pub fn key(seed: [u64; 2], step: u64, place: u64, sample: u64) -> [u32; 2] {
    let k = [seed[0], seed[1], step, place, sample]
        .into_iter()
        .fold(0u64, |k, v| mix((k ^ v).wrapping_add(0x9e37_79b9_7f4a_7c15)));
    [k as u32, (k >> 32) as u32]
}

/// 24 uniform bits of an element, its index counted in C, H, W order within the sample.
pub fn bits(key: [u32; 2], element: u32) -> u32 {
    let mut x = element.wrapping_mul(0x9e37_79b1).wrapping_add(key[0]);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= key[1];
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^= x >> 16;
    x >> 8
}

/// ν of the gradient quantiser: [`bits`]·2⁻²⁴ − ½, in [−½, ½). Every step is exact.
pub fn centred(key: [u32; 2], element: u32) -> f32 {
    bits(key, element) as f32 * (1.0 / 16_777_216.0) - 0.5
}

/// Dropout keeps an element whose [`bits`] are at least this: round(rate·2²⁴).
pub fn dropout_threshold(rate: f32) -> u32 {
    (f64::from(rate) * 16_777_216.0).round_ties_even() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_uncorrelated_and_keyed() {
        let n = 1u32 << 16;
        let draw = |k: [u32; 2]| (0..n).map(|e| f64::from(centred(k, e))).collect::<Vec<_>>();
        let base = draw(key([1, 2], 3, 4, 5));
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len() as f64;
        // Deviations of the mean (σ/√n = 0.0011) and of the variance 1/12 (about 0.0003), five times over.
        assert!(mean(&base).abs() < 0.0057, "{}", mean(&base));
        assert!((dot(&base, &base) - 1.0 / 12.0).abs() < 0.0015);
        for lag in [1, 2, 3, 64, 1024] {
            assert!(dot(base.get(lag..).unwrap_or(&[]), &base).abs() < 0.0017, "lag {lag}");
        }
        let changed = [key([9, 2], 3, 4, 5), key([1, 9], 3, 4, 5), key([1, 2], 9, 4, 5), key([1, 2], 3, 9, 5)];
        for other in changed.into_iter().chain([key([1, 2], 3, 4, 6)]) {
            assert!(dot(&base, &draw(other)).abs() < 0.0017, "{other:?}");
        }
        let mut buckets = [0u32; 64];
        (0..n).for_each(|e| buckets[(bits([7, 8], e) >> 18) as usize] += 1);
        let chi = buckets.iter().map(|&b| (f64::from(b) - 1024.0).powi(2) / 1024.0).sum::<f64>();
        assert!(chi < 120.0, "chi-square {chi} of 63 degrees");
    }

    #[test]
    fn stays_as_documented() {
        // Pinned: a resumed training and every kernel rely on these bits.
        let k = key([1, 2], 3, 4, 5);
        let drawn: Vec<u32> = (0..3).map(|e| bits(k, e)).collect();
        assert_eq!((k, drawn), (PINNED_KEY, PINNED.to_vec()));
        assert_eq!(dropout_threshold(0.5), 1 << 23);
        assert_eq!((centred(k, 0) + 0.5) * 16_777_216.0, PINNED[0] as f32);
    }

    const PINNED_KEY: [u32; 2] = [0x166551de, 0x90bb69b7];
    const PINNED: [u32; 3] = [0xcb9cfd, 0xfcc45c, 0x9fded2];
}
