//! Tuning with times that the test makes up: what is taken, kept and measured again never depends on a clock.

use super::*;
use std::cell::{Cell, RefCell};
use std::path::Path;

const NET: &str = "dorefa 1
graph t(x: f32[N, 3, 10, 10]) -> (y) {
  c0 = conv(x, @conv0.w: f32[32, 3, 3, 3])
  a0 = quantize_activation(c0, bits=2)
  c1 = conv(a0, quantize_weights(@conv1.w: f32[32, 32, 3, 3], bits=1), pads=[1, 1, 1, 1])
  a1 = quantize_activation(c1, bits=2)
  y = conv(a1, quantize_weights(@conv2.w: f32[16, 32, 1, 1], bits=2))
}
";

/// Gives every kernel a time by its place in `order`: the later, the slower; counts the models.
struct Made {
    order: Vec<Kernel>,
    models: Cell<usize>,
    seen: RefCell<Vec<Vec<&'static str>>>,
}

impl Made {
    fn new(order: &[Kernel]) -> Made {
        Made { order: order.to_vec(), models: Cell::new(0), seen: RefCell::new(Vec::new()) }
    }
}

impl Bench for Made {
    fn ready(&self, compiled: Compiled) -> Result<Run<'_>, String> {
        self.models.set(self.models.get() + 1);
        self.seen.borrow_mut().push(compiled.kernels.clone());
        let place = |name: &&str| self.order.iter().position(|k| k.name() == *name).unwrap_or(99) as f64;
        let seconds: Vec<f64> = compiled.kernels.iter().map(|k| 1.0 + place(k)).collect();
        let round = Cell::new(0.0);
        // Every run is disturbed, each less than the one before: the least time counts.
        Ok(Box::new(move || {
            round.set(round.get() + 1.0);
            Ok(seconds.iter().map(|s| s + 100.0 / round.get()).collect())
        }))
    }

    fn rounds(&self) -> usize {
        5
    }
}

fn level() -> Level {
    let cpu = "x86-64-v4+vnni+vpopcntdq+vbmi";
    let triple = "x86_64-unknown-linux-gnu".parse().expect("a triple");
    Level::parse(cpu, &triple).expect("a level").remove(0)
}

fn lowered() -> Graph {
    let mut graph = crate::text::parse(NET, "t.dorefa", &|_| None).expect("a graph");
    crate::passes::run(&mut graph, true, &mut |_, _| {}).expect("passes");
    graph
}

fn kernels(graph: &Graph, wishes: Vec<Wish>) -> Vec<&'static str> {
    let options = Options { kernels: wishes, ..Options::default() };
    compile(graph, &[level()], &options).expect("compiles").kernels
}

#[test]
fn the_fastest_kernel_is_taken_and_remembered() {
    let (graph, options) = (lowered(), Options::default());
    let order = [Kernel::LookUp16, Kernel::Float, Kernel::SplitAvx2, Kernel::LookUp64];
    let made = Made::new(&order);
    let mut cache = Cache::default();
    let wishes = tune(&graph, &level(), &options, 1, &made, &mut cache).expect("tunes");
    assert!(wishes.iter().all(|w| w.measured) && wishes.len() == 3, "{wishes:?}");
    let taken = kernels(&graph, wishes.clone());
    assert!(taken.contains(&"look-up 16") && taken.contains(&"float chain"), "{taken:?}");
    assert!(!taken.contains(&"look-up 64, AVX-512"), "{taken:?}");
    // All is known now: nothing is measured, and the same is taken.
    let again = Made::new(&[Kernel::LookUp64]);
    assert_eq!(tune(&graph, &level(), &options, 1, &again, &mut cache).expect("tunes"), wishes);
    assert_eq!(again.models.get(), 0);
    // Another batch is another question.
    tune(&graph, &level(), &options, 8, &again, &mut cache).expect("tunes");
    assert!(again.models.get() > 0);
    // A cached kernel that the layer cannot have is measured anew.
    let plain = compile(&graph, &[level()], &options).expect("compiles");
    for step in &plain.plan.steps {
        cache.put(key(&graph, &plain, step, &level(), 1), Kernel::Direct, 0.0);
    }
    assert_eq!(tune(&graph, &level(), &options, 1, &made, &mut cache).expect("tunes"), wishes);
}

#[test]
fn the_cache_is_a_file_that_survives_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/er/kernels.json");
    let (mut cache, problem) = Cache::read(&path);
    assert_eq!((&cache, problem), (&Cache::default(), None));
    assert!(cache.write(&path).is_ok() && !path.exists(), "nothing was added");
    cache.put("a".to_owned(), Kernel::Popcount, 0.5);
    cache.write(&path).expect("writes");
    // What another process wrote stays.
    let mut other = Cache::default();
    other.put("b".to_owned(), Kernel::Split, 0.25);
    other.write(&path).expect("writes");
    let (both, problem) = Cache::read(&path);
    assert_eq!((both.get("a"), both.get("b"), problem), (Some(Kernel::Popcount), Some(Kernel::Split), None));
    assert_eq!(std::fs::read_dir(path.parent().unwrap_or(Path::new(""))).expect("a folder").count(), 1);
    for damaged in ["", "{", "[]", "{\"format\":2,\"kernels\":{}}", "{\"format\":1,\"kernels\":{\"a\":3}}"] {
        std::fs::write(&path, damaged).expect("writes");
        let (mut cache, problem) = Cache::read(&path);
        assert!(problem.is_some_and(|p| p.contains("kernels.json") && p.contains("anew")), "{damaged}");
        assert_eq!(cache, Cache::default());
        cache.put("c".to_owned(), Kernel::Float, 1.0);
        cache.write(&path).expect("writes");
        assert_eq!(Cache::read(&path).0.get("c"), Some(Kernel::Float));
    }
    std::fs::write(&path, "{\"format\":1,\"kernels\":{\"a\":{\"kernel\":\"gone\"}}}").expect("writes");
    assert_eq!(Cache::read(&path).0.get("a"), None, "a kernel of another version");
    let mut lost = Cache::default();
    lost.put("d".to_owned(), Kernel::Float, 1.0);
    assert!(lost.write(&path.join("below a file")).is_err());
}

#[test]
fn the_rank_correlation_tells_right_orders_from_wrong_ones() {
    let trial =
        |cycles: f64, seconds: f64| Trial { step: 0, layer: String::new(), kernel: Kernel::Float, cycles, seconds };
    let of = |pairs: &[(f64, f64)]| {
        let trials: Vec<Trial> = pairs.iter().map(|&(c, s)| trial(c, s)).collect();
        rank_correlation(&trials.iter().collect::<Vec<_>>())
    };
    assert_eq!(of(&[(1.0, 5.0), (2.0, 6.0), (9.0, 7.0)]), Some(1.0));
    assert_eq!(of(&[(1.0, 7.0), (2.0, 6.0), (9.0, 5.0)]), Some(-1.0));
    assert_eq!(of(&[(1.0, 1.0)]), None);
    assert!(of(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]).is_some_and(|r| r > 0.0 && r < 1.0));
}
