//! A residual network: values with several readers, additions before the quantiser, strided 1×1 convolutions, overlapping
//! max pools and a global average pool. The compiled step gives the interpreter's bits, at one and at two threads.

use dorefac_tests::training::{ADAM, check, parsed, source, with_bits};

/// A number of the network's text in the small one.
fn number(word: &str) -> &str {
    match word {
        "64" => "8",
        "128" => "16",
        "256" => "32",
        "512" | "224" => "64",
        "1000" => "10",
        other => other,
    }
}

/// ResNet-18 with an eighth of the channels, on 64×64 pixels, for ten classes.
fn small(bits: [i64; 3]) -> String {
    let line = |line: &str| {
        if line.starts_with("meta") {
            return line.to_owned();
        }
        // Runs of digits and of anything else in turn.
        let words = line.chars().fold(vec![String::new()], |mut words, c| {
            let last = words.last().and_then(|w| w.chars().last());
            if last.is_some_and(|l| l.is_ascii_digit() != c.is_ascii_digit()) {
                words.push(String::new());
            }
            words.last_mut().expect("a word").push(c);
            words
        });
        words.iter().map(|w| number(w)).collect()
    };
    with_bits(&source("resnet18").lines().map(line).collect::<Vec<_>>().join("\n"), bits)
}

#[test]
fn resnet_of_codes() {
    check(&parsed(&small([1, 2, 6])), &ADAM, 2, "native");
}

#[test]
fn resnet_with_float_gradients() {
    check(&parsed(&small([1, 2, 32])), &ADAM, 2, "native");
    check(&parsed(&small([32, 32, 32])), &ADAM, 2, "native");
}
