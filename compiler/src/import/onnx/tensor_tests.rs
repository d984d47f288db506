//! Tests of the tensor decoder.

use super::*;

fn raw(data_type: i32, dims: &[i64], raw: &[u8]) -> RawTensor {
    RawTensor { data_type, dims: dims.to_vec(), raw: raw.to_vec(), ..RawTensor::default() }
}

fn longs(t: &RawTensor) -> Vec<i64> {
    decode(t, None).unwrap().as_i64().unwrap().to_vec()
}

#[test]
fn sub_byte_types_are_packed_low_bits_first() {
    assert_eq!(longs(&raw(22, &[3], &[0xf1, 0x08])), [1, -1, -8]);
    assert_eq!(longs(&raw(21, &[3], &[0xf1, 0x08])), [1, 15, 8]);
    assert_eq!(longs(&raw(26, &[5], &[0b1110_0100, 0b01])), [0, 1, -2, -1, 1]);
    assert_eq!(longs(&raw(25, &[4], &[0b1110_0100])), [0, 1, 2, 3]);
    let typed = RawTensor { data_type: 22, dims: vec![2], ints: vec![0x7f], ..RawTensor::default() };
    assert_eq!(longs(&typed), [-1, 7]);
}

#[test]
fn halves_by_their_bits() {
    let t = decode(&raw(10, &[4], &[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0xff, 0x7b]), None).unwrap();
    assert_eq!(t.as_f32().unwrap(), [1.0, -2.0, 2f32.powi(-24), 65504.0]);
    let t = decode(&raw(16, &[1], &[0x80, 0x3f]), None).unwrap();
    assert_eq!(t.as_f32().unwrap(), [1.0]);
    let typed = RawTensor { data_type: 10, dims: vec![1], ints: vec![0x3555], ..RawTensor::default() };
    assert!((decode(&typed, None).unwrap().as_f32().unwrap()[0] - 1.0 / 3.0).abs() < 1e-3);
}

#[test]
fn integers_extend_by_their_sign() {
    assert_eq!(longs(&raw(3, &[2], &[0xff, 0x7f])), [-1, 127]);
    assert_eq!(longs(&raw(2, &[2], &[0xff, 0x7f])), [255, 127]);
    assert_eq!(longs(&raw(6, &[], &[0xfe, 0xff, 0xff, 0xff])), [-2]);
    assert_eq!(longs(&raw(9, &[2], &[0, 2])), [0, 1]);
    let typed = RawTensor { data_type: 12, dims: vec![1], unsigned: vec![4_000_000_000], ..RawTensor::default() };
    assert_eq!(longs(&typed), [4_000_000_000]);
}

#[test]
fn sizes_that_do_not_match_are_refused() {
    assert!(decode(&raw(1, &[2], &[0; 7]), None).is_err());
    assert!(decode(&raw(1, &[i64::MAX, 4], &[0; 8]), None).is_err());
    assert!(decode(&raw(1, &[-1], &[0; 4]), None).is_err());
    assert!(decode(&raw(1, &[1 << 40], &[]), None).is_err());
    assert!(decode(&raw(8, &[1], &[0]), None).unwrap_err().contains("STRING"));
    assert_eq!(decode(&raw(1, &[0], &[]), None).unwrap().len(), 0);
}

#[test]
fn external_data_stays_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.bin"), [0u8, 0, 0x80, 0x3f, 0, 0, 0, 0x40]).unwrap();
    let at = |location: &str, offset: &str| RawTensor {
        external: Some([("location".into(), location.into()), ("offset".into(), offset.into())].into()),
        ..raw(1, &[1], &[])
    };
    let t = decode(&at("w.bin", "4"), Some(dir.path())).unwrap();
    assert_eq!(t.as_f32().unwrap(), [2.0]);
    for (location, offset) in
        [("../w.bin", "0"), ("/etc/passwd", "0"), ("w.bin", "5"), ("w.bin", "x"), ("none", "0"), ("", "0"), (".", "0")]
    {
        assert!(decode(&at(location, offset), Some(dir.path())).is_err(), "{location} {offset}");
    }
    assert!(decode(&at("w.bin", "18446744073709551615"), Some(dir.path())).is_err());
}
