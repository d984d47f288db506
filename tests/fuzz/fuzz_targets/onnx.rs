#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dorefac_tests::fuzz::onnx(bytes));
