//! Which operands a product takes and which it refuses, whatever the machine.

use super::reference::geometry;
use super::tests::{limits, words};
use super::*;
use crate::lower::train::layouts::Range;

#[test]
fn sums_beyond_32_bits_are_refused() {
    let g = geometry(64, 16, 1, [40, 40], ([3, 3], [1, 1], [1; 4], [1, 1]));
    let operands = |a: i32| words(a, 255);
    assert!(Forward::new(&g, operands(255)).is_ok());
    assert!(Forward::new(&g, operands(20_000)).err().unwrap().contains("32 bits"));
    assert!(InputGrad::new(&g, operands(1 << 20)).is_err());
    assert!(WeightGrad::new(&g, operands(6_000)).is_err());
}

#[test]
fn bytes_are_multiplied_where_the_sum_of_two_products_fits_16_bits() {
    let range = |least, greatest| Range { least, greatest };
    for (a, b, _) in limits().into_iter().filter(|l| l.2) {
        assert!(bytes_suffice(a, b), "{a:?} {b:?}");
    }
    for (a, b) in [
        (range(0, 255), Range::symmetric(65)),
        (range(0, 256), Range::symmetric(1)),
        (range(-128, 128), Range::symmetric(1)),
        (range(-256, 0), Range::symmetric(1)),
        (range(0, 128), range(-128, 127)),
        (range(0, 1), range(-129, 127)),
        (range(0, 1), range(-128, 128)),
        (range(i32::MIN, 0), range(0, 1)),
    ] {
        assert!(!bytes_suffice(a, b), "{a:?} {b:?}");
        let g = geometry(4, 4, 1, [4, 4], ([3, 3], [1, 1], [1; 4], [1, 1]));
        assert!(Forward::new(&g, Operands::Levels { a, b, bytes: true }).is_err());
    }
}
