//! What each epoch gave, and its table as CSV.

use std::fmt::Write;

/// The figures of one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Steps done at its end.
    pub step: u64,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean loss over its training images, each as it was seen.
    pub loss: f64,
    /// Fraction of them labelled right.
    pub accuracy: f64,
    /// Loss and accuracy on the validation or test images after it.
    pub validation: Option<(f64, f64)>,
    /// Training images a second; `None` for epochs before a resume.
    pub images_per_s: Option<f64>,
}

/// The columns of the table.
const HEADER: &str = "epoch,step,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy";

/// The table with a header line; numbers are written so that they read back exactly. The speed is the last column if
/// `speed`: what is stored without it is the same at every repetition of a training.
pub fn to_csv(records: &[Record], speed: bool) -> String {
    let mut out = HEADER.to_owned();
    out.push_str(if speed { ",images_per_s\n" } else { "\n" });
    for r in records {
        let (loss, accuracy) = r.validation.map_or_else(Default::default, |(l, a)| (l.to_string(), a.to_string()));
        let _ = write!(out, "{},{},{},{},{},{loss},{accuracy}", r.epoch, r.step, r.lr, r.loss, r.accuracy);
        if speed {
            let _ = write!(out, ",{}", r.images_per_s.map_or_else(String::new, |v| format!("{v:.1}")));
        }
        out.push('\n');
    }
    out
}

/// Reads a table without the column of speeds; `None` where it is none.
pub fn from_csv(text: &str) -> Option<Vec<Record>> {
    let mut lines = text.lines();
    let record = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        let &[epoch, step, lr, loss, accuracy, validation_loss, validation_accuracy] = &*fields else { return None };
        let validation = match (validation_loss, validation_accuracy) {
            ("", "") => None,
            (l, a) => Some((l.parse().ok()?, a.parse().ok()?)),
        };
        let (epoch, step, lr) = (epoch.parse().ok()?, step.parse().ok()?, lr.parse().ok()?);
        let (loss, accuracy) = (loss.parse().ok()?, accuracy.parse().ok()?);
        Some(Record { epoch, step, lr, loss, accuracy, validation, images_per_s: None })
    };
    if lines.next() == Some(HEADER) { lines.map(record).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_exactly() {
        let record = |epoch: u64, validation| Record {
            epoch,
            step: epoch * 10,
            lr: 1e-3 / 3.0,
            loss: 0.1 + 0.2,
            accuracy: 1.0 / 3.0,
            validation,
            images_per_s: None,
        };
        let records = [record(1, None), record(2, Some((2.0 / 3.0, 1.0)))];
        assert_eq!(from_csv(&to_csv(&records, false)).unwrap(), records);
        assert_eq!(from_csv(&to_csv(&[], false)).unwrap(), []);
        assert!(to_csv(&[Record { images_per_s: Some(12.34), ..records[0].clone() }], true).ends_with(",,,12.3\n"));
        for bad in ["", "epoch", &to_csv(&records, true), &to_csv(&records, false).replace("10", "x")] {
            assert!(from_csv(bad).is_none(), "{bad}");
        }
    }
}
