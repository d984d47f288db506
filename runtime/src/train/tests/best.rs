//! The best checkpoint: which it is, that it outlives interruptions, and when it cannot be kept.

use super::*;
use crate::io::IoError;

/// Options that keep the best of 8 epochs.
fn keeping(output: &Path, best: &Path) -> TrainOptions {
    TrainOptions { epochs: 8, best: Some(best.to_owned()), ..options(Some(output)) }
}

fn accuracy(r: &Record) -> f64 {
    r.validation.map_or(0.0, |v| v.1)
}

#[test]
fn the_best_checkpoint_is_that_of_the_best_epoch_however_often_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (last, best) = (file("last.safetensors"), file("best.safetensors"));
    let summary = train(&mut Mock::new(), keeping(&last, &best), None, u64::MAX).unwrap();
    let found = summary.best.clone().unwrap();
    let greatest = summary.history.iter().map(accuracy).fold(0.0, f64::max);
    assert!(accuracy(&found) == greatest && found.epoch > 1 && found.epoch < 8, "{summary:?}");
    let kept = Checkpoint::read(&best).unwrap();
    assert_eq!(kept.progress().unwrap().history.last(), Some(&Record { images_per_s: None, ..found.clone() }));
    let marked = std::fs::read_to_string(file("last.csv")).unwrap();
    let rows: Vec<_> = marked.lines().map(|l| l.ends_with(",1")).collect();
    assert_eq!(rows.iter().position(|m| *m), Some(found.epoch as usize), "{marked}");
    let [whole, whole_best] = [&last, &best].map(|f| std::fs::read(f).unwrap());
    let (parts, parts_best) = (file("parts.safetensors"), file("parts-best.safetensors"));
    for part in [1, 5] {
        let mut from = None;
        while train(&mut Mock::new(), keeping(&parts, &parts_best), from.as_ref(), part).unwrap().interrupted {
            from = Some(Checkpoint::read(&parts).unwrap());
        }
        assert_eq!([&parts, &parts_best].map(|f| std::fs::read(f).unwrap()), [whole.clone(), whole_best.clone()]);
        [parts.clone(), parts_best.clone()].iter().for_each(|f| std::fs::remove_file(f).unwrap());
    }
    // Kept or not, the last checkpoint says which epoch was the best.
    train(&mut Mock::new(), TrainOptions { best: None, ..keeping(&parts, &best) }, None, u64::MAX).unwrap();
    assert_eq!(std::fs::read(&parts).unwrap(), whole);
}

#[test]
fn a_lost_best_checkpoint_is_sought_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (last, best) = (folder.path().join("last.safetensors"), folder.path().join("best.safetensors"));
    let whole = train(&mut Mock::new(), keeping(&last, &best), None, u64::MAX).unwrap();
    let found = whole.best.unwrap().epoch;
    // Within an epoch after the best.
    let stopped = (found + 1) * 4;
    train(&mut Mock::new(), keeping(&last, &best), None, stopped).unwrap();
    let from = Checkpoint::read(&last).unwrap();
    assert_eq!(from.progress().unwrap().best, Some(found));
    // Gone, damaged, or another checkpoint, which speaks of the same best epoch but is not its.
    for lost in [None, Some(b"not a checkpoint".to_vec()), Some(std::fs::read(&last).unwrap())] {
        match &lost {
            None => std::fs::remove_file(&best).unwrap(),
            Some(bytes) => std::fs::write(&best, bytes).unwrap(),
        }
        let rest = train(&mut Mock::new(), keeping(&last, &best), Some(&from), u64::MAX).unwrap();
        let after = rest.best.unwrap().epoch;
        assert!(after > found, "{after}");
        let kept = Checkpoint::read(&best).unwrap();
        assert_eq!(kept.progress().unwrap().epoch, after);
    }
}

#[test]
fn what_cannot_be_kept_is_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let last = folder.path().join("last.safetensors");
    let detour = folder.path().join(".").join("last.safetensors");
    let refused = |options: TrainOptions, validation: Option<&dyn Source>| {
        let mut mock = Mock::new();
        let fitted = Trainer::new(&mut mock, options).fit(&Numbers(10), validation, &mut |_| Control::Continue);
        (fitted.unwrap_err(), mock.values == Mock::new().values)
    };
    let (error, untouched) = refused(keeping(&last, &detour), Some(&Numbers(4)));
    assert!(untouched && error.is_input() && error.to_string().contains("also the place"), "{error}");
    let best = folder.path().join("best.safetensors");
    let (error, untouched) = refused(keeping(&last, &best), None);
    assert!(untouched && error.is_input() && error.to_string().contains("no images"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let full = Path::new("/dev/full");
    if full.exists() {
        let (error, _) = refused(keeping(&last, full), Some(&Numbers(4)));
        assert!(matches!(&error, TrainError::Write(IoError::System { .. })), "{error}");
        assert!(!error.is_input() && error.to_string().contains("/dev/full"), "{error}");
        assert!(!last.exists());
    }
}
