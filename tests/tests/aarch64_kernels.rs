//! Every kernel of aarch64, forced on layers of odd shapes at every level and run under an emulator, gives the interpreter's bits. And
//! the kernels' hot loops stand in files: they use the instructions that they are written for and keep all sums in registers.
//! `DOREFAC_BLESS=1` writes the files anew.

use dorefa_runtime::Tensor;
use dorefac::codegen::kernels::choice::Kernel;
use dorefac::codegen::target::{Arch, Level, host_features};
use dorefac::compile::{CompileError, Compiled, Options, Wish, compile};
use dorefac::emit::elf;
use dorefac::graph::Graph;
use dorefac::interp;
use dorefac_tests::layers::{Fill, network};
use dorefac_tests::native::Machine;
use dorefac_tests::{bits, repository};
use std::collections::BTreeSet;
use std::path::Path;

const LEVELS: [&str; 3] = ["generic", "generic+dotprod", "generic+i8mm"];
const KERNELS: [Kernel; 8] = [
    Kernel::LookUp16,
    Kernel::LookUp16Avx2,
    Kernel::LookUpFlat,
    Kernel::Popcount,
    Kernel::SplitDot,
    Kernel::SplitNeon,
    Kernel::Split,
    Kernel::DirectWide,
];

/// Channels, rows and columns, the bits of the input, the layer, what follows.
type Case = (usize, usize, u32, &'static str, &'static str);

const CODES: &str = "n = mul(c, @g: f32[O, 1, 1]); q = quantize_activation(n, bits=2); y = conv(q, quantize_weights(@v: f32[5, O, 1, 1], bits=3))";

/// As nibbles.
const NIBBLES: &str = "n = mul(c, @g: f32[O, 1, 1]); q = quantize_activation(n, bits=2); \
                       y = conv(q, quantize_weights(@v: f32[16, O, 1, 1], bits=1))";
/// The layer's input chooses among the thresholds.
const RESIDUAL: &str = "n = mul(c, @g: f32[O, 1, 1]); m = add(n, @o: f32[O, 1, 1]); s = add(m, a); \
                        q = quantize_activation(s, bits=2); y = conv(q, quantize_weights(@v: f32[16, O, 1, 1], bits=1))";

/// Rows of one tile, of several, of overlapping ones; up to five taps, strides, groups; quads that fill no pair; planes of weights and of
/// activations.
const ROWS: &[Case] = &[
    (12, 9, 2, "@w: f32[32, 12, 3, 3], bits=1), pads=[1, 1, 1, 1]", CODES),
    (20, 8, 1, "@w: f32[32, 20, 2, 2], bits=2), pads=[0, 1, 1, 0]", "y = relu(c)"),
    (28, 19, 2, "@w: f32[32, 28, 3, 3], bits=2), pads=[1, 1, 1, 1]", "y = relu(c)"),
    (16, 9, 2, "@w: f32[32, 16, 5, 5], bits=1), pads=[2, 2, 2, 2]", CODES),
    (20, 11, 2, "@w: f32[32, 20, 5, 5], bits=1), strides=[2, 3], pads=[2, 2, 2, 2]", "y = relu(c)"),
    (24, 10, 2, "@w: f32[64, 12, 3, 3], bits=3), groups=2, pads=[1, 1, 1, 1]", CODES),
    (64, 9, 3, "@w: f32[32, 64, 3, 3], bits=2), pads=[1, 1, 1, 1]", "y = relu(c)"),
    (12, 9, 2, "@w: f32[32, 12, 3, 3], bits=1), pads=[1, 1, 1, 1]", NIBBLES),
    (20, 8, 1, "@w: f32[64, 20, 2, 2], bits=1), pads=[0, 1, 1, 0]", CODES),
    (32, 10, 2, "@w: f32[32, 32, 3, 3], bits=1), pads=[1, 1, 1, 1]", RESIDUAL),
];

/// Channels and outputs that fill no word, several taps.
const FLAT: &[Case] = &[
    (70, 1, 2, "@w: f32[40, 70, 1, 1], bits=1)", "y = relu(c)"),
    (20, 3, 1, "@w: f32[64, 20, 3, 3], bits=2)", "y = relu(c)"),
    (1300, 1, 2, "@w: f32[65, 1300, 1, 1], bits=1)", "y = relu(c)"),
];

/// One digit, two and three; levels beyond 127; positions that fill no tile; codes decided early, and values.
const SPLIT: &[Case] = &[
    (20, 7, 4, "@w: f32[24, 20, 3, 3], bits=4), pads=[1, 1, 1, 1]", CODES),
    (9, 5, 8, "@w: f32[16, 9, 3, 3], bits=8), pads=[1, 1, 1, 1]", "y = relu(c)"),
    (3, 11, 8, "@w: f32[20, 3, 5, 5], strides=[2, 1], pads=[2, 1, 2, 3]", CODES),
    (3, 13, 8, "@w: f32[32, 3, 4, 4], pads=[1, 1, 1, 1]", CODES),
    (6, 8, 7, "@w: f32[16, 3, 3, 3], groups=2, dilations=[2, 2], pads=[2, 2, 2, 2]", "y = relu(c)"),
];

fn graph((channels, size, a, layer, tail): Case, weights: Fill) -> Graph {
    let conv = if layer.contains("bits=") { "conv(a, quantize_weights(" } else { "conv(a, " };
    let outputs = layer.split(['[', ',']).nth(1).expect("outputs");
    let text = format!("c = {conv}{layer}); {tail}")
        .replace("[O,", &format!("[{outputs},"))
        .replace(", O,", &format!(", {outputs},"));
    network([channels, size], &format!("quantize_activation(x, bits={a})"), &text, weights, true)
}

fn parsed(arch: Arch, level: &str) -> Vec<Level> {
    let triple = format!("{}-unknown-linux-gnu", arch.name());
    Level::parse(level, &triple.parse().expect("a triple")).expect("levels")
}

fn compiled(graph: &Graph, levels: &[Level], kernel: Kernel) -> Option<Compiled> {
    let wish = Wish { layer: "c".to_owned(), kernel: kernel.word(), measured: false };
    match compile(graph, levels, &Options { keep_text: true, kernels: vec![wish], ..Options::default() }) {
        Ok(compiled) => Some(compiled),
        Err(CompileError::Kernels(_)) => None,
        Err(other) => panic!("{other}"),
    }
}

/// Runs every kernel that can have the layer at every level; gives those. The program that runs them fills the arena with what is not
/// zero.
fn check(cases: &[Case], fills: &[Fill]) -> BTreeSet<(&'static str, Kernel)> {
    check_on(Arch::Aarch64, &LEVELS, cases, fills)
}

fn check_on(arch: Arch, levels: &[&'static str], cases: &[Case], fills: &[Fill]) -> BTreeSet<(&'static str, Kernel)> {
    let mut seen = BTreeSet::new();
    let Some(machine) = Machine::new(arch) else { return seen };
    let folder = tempfile::tempdir().expect("folder");
    let driver = machine.driver(folder.path(), &[]);
    for (&case, &weights) in cases.iter().flat_map(|c| fills.iter().map(move |f| (c, f))) {
        let graph = graph(case, weights);
        // A sample with every pixel at its greatest, one at its least, one of all sorts.
        let area = case.0 * case.1 * case.1;
        let data: Vec<f32> = Fill::ALL.iter().flat_map(|f| (0..area).map(|i| f.value(i))).collect();
        let x = Tensor::f32(vec![3, case.0, case.1, case.1], data.clone()).expect("fits");
        let want = interp::run(&graph, &[x], true).expect("runs");
        let want: Vec<u8> = want.iter().flat_map(bits).flat_map(u32::to_le_bytes).collect();
        for (level, kernel) in levels.iter().flat_map(|&l| KERNELS.map(|k| (l, k))) {
            let Some(compiled) = compiled(&graph, &parsed(arch, level), kernel) else { continue };
            assert!(compiled.kernels.contains(&kernel.name()), "{:?}", compiled.kernels);
            let so = folder.path().join("net.so");
            std::fs::write(&so, elf::shared_object(&compiled.image, "net.so").expect("links")).expect("writes");
            let got = machine.run(&driver, Some(&so), &data, 3, 2);
            assert!(want == got, "{kernel:?} at {level}, weights {weights:?}: {case:?}");
            seen.insert((level, kernel));
        }
    }
    seen
}

#[test]
fn rows_of_look_ups() {
    let seen = check(ROWS, &[Fill::Greatest, Fill::Mixed]);
    assert!(seen.is_empty() || seen.contains(&("generic", Kernel::LookUp16)), "{seen:?}");
}

/// The same layers here: what tiles leave unwritten of a word of bits shows where the arena is not zero.
#[test]
fn rows_of_look_ups_on_x86() {
    if Arch::host() != Some(Arch::X86_64) {
        return;
    }
    let fits = |level: &&&str| parsed(Arch::X86_64, level).iter().all(|l| l.features & !host_features() == 0);
    let levels: Vec<&str> = ["x86-64-v2", "x86-64-v3"].iter().filter(fits).copied().collect();
    check_on(Arch::X86_64, &levels, ROWS, &[Fill::Greatest, Fill::Mixed]);
}

#[test]
fn one_position() {
    let seen = check(FLAT, &Fill::ALL);
    assert!(seen.is_empty() || seen.contains(&("generic", Kernel::LookUpFlat)), "{seen:?}");
}

#[test]
fn digits() {
    let seen = check(SPLIT, &[Fill::Greatest, Fill::Rough]);
    let want =
        [("generic", Kernel::SplitNeon), ("generic+dotprod", Kernel::SplitDot), ("generic+i8mm", Kernel::SplitDot)];
    assert!(seen.is_empty() || want.iter().all(|w| seen.contains(w)), "{seen:?}");
}

/// The loop with the most of an instruction: the block of the listing from its label to its branch.
fn hot_loop(compiled: &Compiled, instruction: &str) -> String {
    let listings = compiled.image.functions.iter().filter_map(|f| f.code.as_ref()?.asm.as_ref());
    let blocks = listings.flat_map(|asm| asm.split("block").skip(1));
    let uses = |block: &&str| block.matches(&format!("  {instruction} ")).count();
    let block = blocks.max_by_key(uses).unwrap_or_default();
    renamed(&block.lines().skip(1).map(|line| format!("{}\n", line.trim())).collect::<String>())
}

/// The listing with registers numbered as they first occur: which ones are given depends on code around the loop.
fn renamed(listing: &str) -> String {
    let mut seen: [Vec<&str>; 2] = Default::default();
    let words = listing.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let rename = words.map(|word| {
        let (name, rest) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
        let (kind, number) = name.split_at(name.len().min(1));
        let known = match kind {
            _ if number.is_empty() || number.parse::<u8>().is_err() => return word.to_owned(),
            "x" | "w" => &mut seen[0],
            "v" | "q" | "d" | "s" | "h" | "b" => &mut seen[1],
            _ => return word.to_owned(),
        };
        let place = known.iter().position(|n| *n == number).unwrap_or_else(|| {
            known.push(number);
            known.len() - 1
        });
        format!("{kind}{place}{rest}")
    });
    rename.collect()
}

/// Name of the file, level, kernel, layer, its instruction, how many the loop has.
const LOOPS: &[(&str, &str, Kernel, Case, &str, usize)] = &[
    (
        "look-up-3-taps",
        "generic",
        Kernel::LookUp16,
        (64, 18, 2, "@w: f32[64, 64, 3, 3], bits=1), pads=[1, 1, 1, 1]", "y = relu(c)"),
        "tbl",
        72,
    ),
    (
        "look-up-5-taps",
        "generic",
        Kernel::LookUp16,
        (48, 14, 2, "@w: f32[64, 48, 5, 5], bits=1), pads=[2, 2, 2, 2]", "y = relu(c)"),
        "tbl",
        70,
    ),
    (
        "look-up-flat",
        "generic",
        Kernel::LookUpFlat,
        (512, 1, 2, "@w: f32[64, 512, 1, 1], bits=1)", "y = relu(c)"),
        "tbl",
        40,
    ),
    (
        "bit-serial",
        "generic",
        Kernel::Popcount,
        (64, 6, 2, "@w: f32[64, 64, 3, 3], bits=1), pads=[1, 1, 1, 1]", "y = relu(c)"),
        "cnt",
        8,
    ),
    (
        "split-pairs",
        "generic",
        Kernel::SplitNeon,
        (3, 13, 8, "@w: f32[32, 3, 4, 4], pads=[1, 1, 1, 1]", CODES),
        "smull2",
        24,
    ),
    (
        "split-sdot",
        "generic+dotprod",
        Kernel::SplitDot,
        (3, 13, 8, "@w: f32[32, 3, 4, 4], pads=[1, 1, 1, 1]", CODES),
        "sdot",
        24,
    ),
    (
        "split-usdot",
        "generic+i8mm",
        Kernel::SplitDot,
        (3, 13, 8, "@w: f32[32, 3, 4, 4], pads=[1, 1, 1, 1]", CODES),
        "usdot",
        24,
    ),
    (
        "bytes-usdot",
        "generic+i8mm",
        Kernel::SplitDot,
        (64, 12, 4, "@w: f32[32, 64, 3, 3], bits=4), pads=[1, 1, 1, 1]", "y = relu(c)"),
        "usdot",
        24,
    ),
];

#[test]
fn hot_loops() {
    let bless = std::env::var_os("DOREFAC_BLESS").is_some_and(|v| v == "1");
    let mut wrong = Vec::new();
    for &(name, level, kernel, case, instruction, count) in LOOPS {
        let levels = parsed(Arch::Aarch64, level);
        let compiled = compiled(&graph(case, Fill::Mixed), &levels, kernel).expect("the kernel fits");
        let text = hot_loop(&compiled, instruction);
        let found = text.lines().filter(|l| l.split(' ').next() == Some(instruction)).count();
        assert!(found == count, "{name}: {found} of {instruction}\n{text}");
        // A vector that the loop stores on the stack is a spill.
        let spilled: Vec<_> = text.lines().filter(|l| l.starts_with("str q") && l.contains("[sp")).collect();
        assert!(spilled.is_empty(), "{name}: {spilled:?}\n{text}");
        let file = repository().join(format!("tests/golden/aarch64/{name}.s"));
        if bless {
            write(&file, &text);
        } else if std::fs::read_to_string(&file).ok().as_ref() != Some(&text) {
            wrong.push(format!("{} differs from\n{text}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nset DOREFAC_BLESS=1 to accept", wrong.join("\n"));
}

fn write(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(file, text).expect("writes");
}
