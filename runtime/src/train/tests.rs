//! The trainer on a step of a few floats: what matters here is that it computes the same whatever happens in between.

mod best;

use super::*;
use crate::data::DataError;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// w ← w − lr·m, m ← β₁·m + (Σx + step) as a stand-in of a gradient with noise; loss = w₀, hits = the nearer w₀ is to 0, the more.
struct Mock {
    states: Vec<StateTensor>,
    values: Vec<Vec<f32>>,
    /// The step that gives no finite number.
    broken: u64,
}

impl Mock {
    fn new() -> Mock {
        let tensor = |name: &str, role| StateTensor { name: name.to_owned(), dims: vec![2, 1], role };
        Mock {
            states: vec![tensor("w", Role::Parameter), tensor("w.m", Role::Momentum)],
            values: vec![vec![1.0, 0.5], vec![0.0; 2]],
            broken: u64::MAX,
        }
    }
}

impl Step for Mock {
    fn states(&self) -> &[StateTensor] {
        &self.states
    }
    fn state(&self, index: usize) -> &[f32] {
        self.values.get(index).map_or(&[], Vec::as_slice)
    }
    fn set_state(&mut self, index: usize, values: &[f32]) -> Result<(), StepError> {
        self.values[index] = values.to_vec();
        Ok(())
    }
    fn sample_shape(&self) -> Vec<usize> {
        vec![1]
    }
    fn classes(&self) -> usize {
        2
    }
    fn step(&mut self, x: &Tensor, labels: &[i32], hyper: &Hyper) -> Result<StepResult, StepError> {
        step::check_labels(labels, x.len(), 2)?;
        if hyper.step == self.broken {
            return Err(StepError::NonFinite { tensor: Some("w".into()), layer: Some("c1".into()) });
        }
        // Not associative on purpose: another order of the data gives other bits.
        let gradient = x.as_f32().unwrap().iter().fold(hyper.step as f32 * 1e-3, |sum, v| sum * 0.9 + v);
        for i in 0..2 {
            self.values[1][i] = hyper.beta1 as f32 * self.values[1][i] + gradient;
            self.values[0][i] -= hyper.lr as f32 * self.values[1][i];
        }
        self.evaluate(x, labels)
    }
    fn evaluate(&mut self, _: &Tensor, labels: &[i32]) -> Result<StepResult, StepError> {
        let loss = f64::from(self.values[0][0].abs());
        let correct = ((1.0 - loss) * labels.len() as f64).round() as u64;
        Ok(StepResult { loss, correct })
    }
}

/// Samples 0 … n − 1 in batches of 3, turned by the epoch.
struct Numbers(usize);

impl Source for Numbers {
    fn images(&self) -> usize {
        self.0
    }
    fn batches(&self) -> usize {
        self.0.div_ceil(3)
    }
    fn epoch(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = Result<Labelled, DataError>> + '_> {
        Box::new((first..self.batches()).map(move |b| {
            let values: Vec<f32> =
                (b * 3..self.0.min(b * 3 + 3)).map(|i| ((i + epoch as usize) % self.0) as f32 * 0.01).collect();
            let labels = values.iter().map(|v| i32::from(*v > 0.02)).collect();
            Ok((Tensor::f32([values.len()], values).unwrap(), labels))
        }))
    }
}

fn options(output: Option<&Path>) -> TrainOptions {
    TrainOptions {
        epochs: 4,
        seed: 3,
        schedule: Schedule { shape: "cosine".parse().unwrap(), warmup: 0.5 },
        hyper: Hyper { lr: 0.1, ..Hyper::default() },
        output: output.map(Path::to_owned),
        graph: Some("dorefa 1".into()),
        constants: vec![("table".into(), Tensor::new([3], crate::Data::I64(vec![1, -2, 3])).unwrap())],
        about: BTreeMap::from([("batch".into(), "3".into())]),
        ..TrainOptions::default()
    }
}

/// Trains, stopping after `steps` steps of this call.
fn train(mock: &mut Mock, options: TrainOptions, from: Option<&Checkpoint>, steps: u64) -> Result<Summary, TrainError> {
    let mut left = steps;
    train_until(mock, options, from, &mut |event| {
        left -= u64::from(matches!(event, Event::Step(_)));
        left == 0
    })
}

/// Trains until `stop` says so.
fn train_until(
    mock: &mut Mock,
    options: TrainOptions,
    from: Option<&Checkpoint>,
    stop: &mut dyn FnMut(&Event<'_>) -> bool,
) -> Result<Summary, TrainError> {
    let mut trainer = Trainer::new(mock, options);
    if let Some(checkpoint) = from {
        trainer.resume(checkpoint)?;
    }
    let mut observer = |event: &Event<'_>| if stop(event) { Control::Stop } else { Control::Continue };
    trainer.fit(&Numbers(10), Some(&Numbers(4)), &mut observer)
}

#[test]
fn an_interrupted_training_ends_in_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole.safetensors"), folder.path().join("parts.safetensors"));
    let summary = train(&mut Mock::new(), options(Some(&whole)), None, u64::MAX).unwrap();
    assert_eq!((summary.interrupted, summary.step, summary.history.len()), (false, 16, 4));
    let bytes = std::fs::read(&whole).unwrap();
    for part in [1, 3, 7] {
        let (mut from, mut stops) = (None, 0);
        while train(&mut Mock::new(), options(Some(&parts)), from.as_ref(), part).unwrap().interrupted {
            from = Some(Checkpoint::read(&parts).unwrap());
            stops += 1;
        }
        assert_eq!((&std::fs::read(&parts).unwrap(), stops), (&bytes, 16 / part), "parts of {part}");
    }
    // Stopped amid the validation of the second epoch: only that is done again.
    let mut seen = 0;
    let summary = train_until(&mut Mock::new(), options(Some(&parts)), None, &mut |event| {
        seen += usize::from(matches!(event, Event::Validation { .. }));
        seen == 3
    });
    assert_eq!(summary.map(|s| (s.interrupted, s.step, s.history.len())).unwrap(), (true, 8, 1));
    let from = Checkpoint::read(&parts).unwrap();
    train(&mut Mock::new(), options(Some(&parts)), Some(&from), u64::MAX).unwrap();
    assert_eq!(std::fs::read(&parts).unwrap(), bytes);
    let table = std::fs::read_to_string(whole.with_extension("csv")).unwrap();
    assert_eq!(table.lines().count(), 5);
    assert!(std::fs::read_to_string(whole.with_extension("svg")).unwrap().contains("<polyline"));
    let checkpoint = Checkpoint::read(&whole).unwrap();
    assert_eq!(checkpoint.graph.as_deref(), Some("dorefa 1"));
    assert_eq!(checkpoint.tensors["table"].as_i64().unwrap(), [1, -2, 3]);
}

#[test]
fn divergence_names_step_layer_and_tensor_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let mut mock = Mock { broken: 6, ..Mock::new() };
    let error = train(&mut mock, options(Some(&path)), None, u64::MAX).unwrap_err();
    assert!(!error.is_input());
    let text = error.to_string();
    assert!(text.starts_with("step 6 (epoch 2): layer `c1`: the gradient of `w` is not finite; "), "{text}");
    assert!(text.ends_with("c.safetensors"), "{text}");
    assert_eq!(Checkpoint::read(&path).unwrap().progress().unwrap().step, 4);
    let options = TrainOptions { hyper: Hyper { lr: f64::INFINITY, ..Hyper::default() }, ..options(None) };
    let text = train(&mut Mock::new(), options, None, u64::MAX).unwrap_err().to_string();
    assert!(text.contains("step 1") && text.contains("`loss`"), "{text}");
}

#[test]
fn a_checkpoint_that_does_not_fit_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    train(&mut Mock::new(), options(Some(&path)), None, 5).unwrap();
    let good = Checkpoint::read(&path).unwrap();
    let refused = |change: &dyn Fn(&mut Checkpoint), options: TrainOptions| {
        let (mut checkpoint, mut mock) = (good.clone(), Mock::new());
        change(&mut checkpoint);
        let text = train(&mut mock, options, Some(&checkpoint), 1).unwrap_err().to_string();
        assert_eq!(mock.values, Mock::new().values);
        assert!(text.lines().all(|l| l.contains("c.safetensors: ")), "{text}");
        text
    };
    let options = || options(None);
    assert!(refused(&|c| drop(c.tensors.remove("w.m")), options()).contains("no tensor `w.m`"));
    let short = Tensor::f32([2], vec![0.0; 2]).unwrap();
    assert!(refused(&|c| drop(c.tensors.insert("w".into(), short.clone())), options()).contains("f32[2, 1]"));
    let infinite = Tensor::f32([2, 1], vec![0.0, f32::INFINITY]).unwrap();
    assert!(refused(&|c| drop(c.tensors.insert("w".into(), infinite.clone())), options()).contains("element 1"));
    assert!(refused(&|c| c.progress = None, options()).contains("--init"));
    assert!(refused(&|c| c.graph = None, options()).contains("another graph"));
    let text = refused(&|_| (), TrainOptions { seed: 4, epochs: 5, ..options() });
    assert!(text.contains("seed = 3, now it is 4") && text.contains("epochs = 4"), "{text}");
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    assert!(Checkpoint::read(&path).unwrap_err().to_string().contains("c.safetensors: "));
    train(&mut Mock::new(), options(Some(&path)), None, 1).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(5) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Checkpoint::read(&path).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("truncated"), "{length}: {error}");
    }
    for at in (0..bytes.len()).step_by(3) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0xff;
        std::fs::write(&path, &wrong).unwrap();
        let _ = Checkpoint::read(&path); // an error or other numbers, no panic
    }
}

#[test]
fn a_full_disk_keeps_the_previous_checkpoint() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let n = bytes.len().min(self.0);
            self.0 -= n;
            if n == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    train(&mut Mock::new(), options(Some(&path)), None, 1).unwrap();
    let (bytes, checkpoint) = (std::fs::read(&path).unwrap(), Checkpoint::read(&path).unwrap());
    for room in (0..bytes.len()).step_by(9) {
        let failed = crate::io::replace(&path, |_| checkpoint.write_to(&mut Full(room)));
        assert!(matches!(failed, Err(crate::io::IoError::System { .. })), "{room}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    assert!(checkpoint.write_to(&mut Full(bytes.len())).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn weights_alone_start_a_new_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    train(&mut Mock::new(), options(Some(&path)), None, 5).unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    let mut mock = Mock::new();
    mock.values[1] = vec![9.0; 2];
    checkpoint.restore(&mut mock, false).unwrap();
    assert_eq!(mock.values[0], checkpoint.tensors["w"].as_f32().unwrap());
    assert_eq!(mock.values[1], [0.0; 2]);
}

#[test]
fn saves_as_often_as_asked_and_tells_the_speed_and_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let mut mock = Mock::new();
    let mut trainer = Trainer::new(&mut mock, TrainOptions { save_every: Some(3), ..options(Some(&path)) });
    let (mut saved, mut last) = (Vec::new(), 0);
    trainer
        .fit(&Numbers(10), None, &mut |event| {
            match event {
                Event::Step(e) => {
                    last = e.step;
                    assert!(e.images_per_s > 0.0 && e.batches == 4 && e.batch == (e.step - 1) % 4 + 1);
                    assert_eq!(e.remaining.is_zero(), e.step == 16);
                }
                Event::Saved(_) => saved.push(last),
                _ => {}
            }
            Control::Continue
        })
        .unwrap();
    assert_eq!(saved, [3, 4, 6, 8, 9, 12, 12, 15, 16]);
    let empty = trainer.fit(&Numbers(0), None, &mut |_| Control::Continue);
    assert!(matches!(empty, Err(TrainError::Empty { what: "training", images: 0 })));
}
