//! A residual network: values with several readers, additions before the quantiser, strided 1×1 convolutions, overlapping
//! max pools and a global average pool. The compiled step gives the interpreter's bits, at one and at two threads.

use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile_training};
use dorefac::grad;
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

/// What the interpreter trains and no kernel computes yet is refused by name, not miscompiled.
#[test]
fn what_is_not_compiled_is_refused() {
    for (op, features) in [
        ("concat(a, a, axis=1)", 96),
        ("pad(a, pads=[1, 1, 1, 1])", 108),
        ("transpose(a, perm=[0, 2, 3, 1])", 48),
        ("reduce_mean(a, axes=[2, 3])", 3),
        ("reduce_sum(a, axes=[1])", 16),
        ("softmax(a)", 48),
    ] {
        let text = format!(
            "dorefa 1\ngraph g(x: f32[N, 3, 4, 4]) -> (scores) {{\n  a = conv(x, @w: f32[3, 3, 3, 3], pads=[1, 1, 1, 1])\n\
             \x20 y = {op}\n  f = reshape(y, shape=[{features}])\n  scores = matmul(f, @fc.w: f32[4, {features}])\n}}\n"
        );
        let step = grad::build(&parsed(&text), &ADAM).unwrap_or_else(|e| panic!("{op}: {e:?}"));
        let levels = Level::parse("native", &target_lexicon::Triple::host()).expect("a level");
        match compile_training(&step.train, &step.evaluate, &levels, &Options::default()) {
            Ok(_) => check(&parsed(&text), &ADAM, 2, "native"),
            Err(e) => {
                eprintln!("{op}: {e}");
                let e = e.to_string();
                assert!(["y", "dy", "a"].iter().any(|n| e.contains(n)), "{op}: {e}");
            }
        }
    }
}
