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

/// The table with a header line; numbers are written so that they read back exactly.
pub fn to_csv(records: &[Record]) -> String {
    rows(records, "", |_| String::new())
}

/// As [`to_csv`], with two columns more, for people: the speed, which no two repetitions of a training have in common, and
/// `best`, 1 in the row of the epoch `best`, else 0.
pub fn to_table(records: &[Record], best: Option<u64>) -> String {
    rows(records, ",images_per_s,best", |r| {
        let speed = r.images_per_s.map_or_else(String::new, |v| format!("{v:.1}"));
        format!(",{speed},{}", u8::from(best == Some(r.epoch)))
    })
}

/// The table, `names` behind its header and `more` behind each row.
fn rows(records: &[Record], names: &str, more: impl Fn(&Record) -> String) -> String {
    let mut out = format!("{HEADER}{names}\n");
    for r in records {
        let (loss, accuracy) = r.validation.map_or_else(Default::default, |(l, a)| (l.to_string(), a.to_string()));
        let Record { epoch, step, lr, loss: train, accuracy: right, .. } = r;
        let _ = writeln!(out, "{epoch},{step},{lr},{train},{right},{loss},{accuracy}{}", more(r));
    }
    out
}

/// Reads a table as [`to_csv`] writes it; `None` where it is none.
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
        assert_eq!(from_csv(&to_csv(&records)).unwrap(), records);
        assert_eq!(from_csv(&to_csv(&[])).unwrap(), []);
        let quick = Record { images_per_s: Some(12.34), ..records[0].clone() };
        assert!(to_table(std::slice::from_ref(&quick), None).ends_with(",,,12.3,0\n"));
        assert!(to_table(&[quick], Some(1)).ends_with(",,,12.3,1\n"));
        for bad in ["", "epoch", &to_table(&records, None), &to_csv(&records).replace("10", "x")] {
            assert!(from_csv(bad).is_none(), "{bad}");
        }
    }
}
