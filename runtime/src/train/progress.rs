//! How far a training is: all that a resume needs besides the state's tensors.

use super::history::{Record, from_csv, to_csv};
use super::step::StepResult;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version of the stored form.
const FORMAT: u64 = 1;

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Steps done: the noise's counter and Adam's t of the last one.
    pub step: u64,
    /// The epoch it is in, from 0.
    pub epoch: u64,
    /// Batches of that epoch that are done: the position in its order.
    pub batch: u64,
    /// Losses of that epoch so far, times their samples.
    pub loss_sum: f64,
    /// Samples of that epoch so far that were labelled right.
    pub correct: u64,
    /// Samples of that epoch so far.
    pub images: u64,
    /// The finished epochs.
    pub history: Vec<Record>,
    /// The epoch, from 1, after which most validation images were labelled right, the earlier of equals: of all epochs, or
    /// of those since a best checkpoint is kept. `None` where none was evaluated.
    pub best: Option<u64>,
    /// The options that determine the result, by name: a resume must agree in them.
    pub options: BTreeMap<String, String>,
    /// Other options, by name: a resume may change them.
    pub notes: BTreeMap<String, String>,
}

impl Progress {
    /// Counts a step on a batch of `images` samples.
    pub fn count(&mut self, result: &StepResult, images: usize) {
        self.step += 1;
        self.batch += 1;
        self.loss_sum += result.loss * images as f64;
        self.correct += result.correct;
        self.images += images as u64;
    }

    /// Mean loss and accuracy of the epoch so far.
    pub fn means(&self) -> (f64, f64) {
        let images = self.images.max(1) as f64;
        (self.loss_sum / images, self.correct as f64 / images)
    }

    /// The figures of the best epoch.
    pub fn best_record(&self) -> Option<&Record> {
        self.history.iter().find(|r| Some(r.epoch) == self.best)
    }

    /// Ends the epoch; `best` follows.
    pub fn close(&mut self, record: Record) {
        if beats(&record, self.best_record()) {
            self.best = Some(record.epoch);
        }
        self.history.push(record);
        self.epoch += 1;
        (self.batch, self.loss_sum, self.correct, self.images) = (0, 0.0, 0, 0);
    }

    /// The stored form: one JSON object. The same progress gives the same bytes.
    pub fn to_json(&self) -> String {
        // Floats are text: the shortest that reads back exactly.
        json!({
            "format": FORMAT, "step": self.step, "epoch": self.epoch, "batch": self.batch,
            "loss_sum": self.loss_sum.to_string(), "correct": self.correct, "images": self.images,
            "history": to_csv(&self.history), "best": self.best, "options": self.options, "notes": self.notes,
        })
        .to_string()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is none, or of another version.
    pub fn from_json(text: &str) -> Result<Progress, String> {
        let damaged = |what: &str| format!("the training's progress is damaged ({what}); use another checkpoint");
        let value: Value = serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))?;
        let number = |key: &str| value[key].as_u64().ok_or_else(|| damaged(key));
        match number("format")? {
            FORMAT => {}
            other => {
                return Err(format!("the progress has format {other}, this program knows {FORMAT}; use a newer one"));
            }
        }
        let loss_sum = value["loss_sum"].as_str().and_then(|t| t.parse().ok()).filter(|v: &f64| v.is_finite());
        let history = value["history"].as_str().and_then(from_csv).ok_or_else(|| damaged("history"))?;
        let texts = |key: &str| {
            let pair = |(k, v): (&String, &Value)| Some((k.clone(), v.as_str()?.to_owned()));
            let pairs = value[key].as_object().and_then(|o| o.iter().map(pair).collect::<Option<_>>());
            pairs.ok_or_else(|| damaged(key))
        };
        let best = match value.get("best") {
            // An older program stored none: it follows from the epochs.
            None => history.iter().fold(None, |best, r| if beats(r, best) { Some(r) } else { best }).map(|r| r.epoch),
            Some(Value::Null) => None,
            Some(_) => Some(number("best")?),
        };
        if best.is_some_and(|b| !history.iter().any(|r| r.epoch == b && r.validation.is_some())) {
            return Err(damaged("best"));
        }
        Ok(Progress {
            step: number("step")?,
            epoch: number("epoch")?,
            batch: number("batch")?,
            loss_sum: loss_sum.ok_or_else(|| damaged("loss_sum"))?,
            correct: number("correct")?,
            images: number("images")?,
            history,
            best,
            options: texts("options")?,
            notes: texts("notes")?,
        })
    }
}

/// Whether more validation images were labelled right after one epoch than after another.
fn beats(record: &Record, best: Option<&Record>) -> bool {
    let accuracy = |r: &Record| r.validation.map(|v| v.1);
    accuracy(record) > best.and_then(accuracy) // None is less than any number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epoch_is_the_first_of_the_greatest_accuracy() {
        let mut progress = Progress::default();
        for (epoch, accuracy) in [(1, None), (2, Some(0.5)), (3, Some(0.75)), (4, Some(0.75)), (5, Some(0.25))] {
            let validation = accuracy.map(|a| (1.0, a));
            let (lr, loss, accuracy) = (1.0, 1.0, 0.5);
            progress.close(Record { epoch, step: epoch, lr, loss, accuracy, validation, images_per_s: None });
        }
        assert_eq!((progress.best, progress.epoch), (Some(3), 5));
        let text = progress.to_json();
        assert_eq!(Progress::from_json(&text).unwrap(), progress);
        let stored = |best: &str| Progress::from_json(&text.replace("\"best\":3,", best));
        assert_eq!(stored("").unwrap().best, Some(3), "an older program's");
        assert_eq!(stored("\"best\":null,").unwrap().best, None);
        assert_eq!(stored("\"best\":2,").unwrap().best, Some(2));
        for wrong in ["\"best\":1,", "\"best\":9,", "\"best\":\"3\","] {
            assert!(stored(wrong).unwrap_err().contains("damaged (best)"), "{wrong}");
        }
    }

    #[test]
    fn progress_reads_back_exactly() {
        let mut progress = Progress { options: BTreeMap::from([("lr".into(), "0.001".into())]), ..Progress::default() };
        for loss in [0.1, 0.2, 1.0 / 3.0] {
            progress.count(&StepResult { loss, correct: 3 }, 7);
        }
        assert_eq!((progress.step, progress.batch, progress.images, progress.means().1), (3, 3, 21, 9.0 / 21.0));
        let text = progress.to_json();
        assert_eq!(Progress::from_json(&text).unwrap(), progress);
        assert!(Progress::from_json(&text.replace("\"format\":1", "\"format\":2")).unwrap_err().contains("newer"));
        for (from, to) in
            [("\"step\":3", "\"step\":-3"), ("loss_sum", "sum"), ("\"0.001\"", "1"), ("}", ""), ("notes", "note")]
        {
            assert!(Progress::from_json(&text.replace(from, to)).unwrap_err().contains("damaged"), "{from}");
        }
    }
}
