//! What a training tells while it runs: a bar on a terminal, plain lines in a log.

use dorefa_runtime::train::{Event, Record, StepEvent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Least time between two lines of a log within an epoch.
const INTERVAL: Duration = Duration::from_secs(10);

/// Shows the events of a training on standard error.
pub struct Show {
    /// `None` in a log.
    bar: Option<ProgressBar>,
    epochs: u64,
    last: Instant,
}

impl Show {
    /// For a training of `epochs` epochs.
    pub fn new(epochs: u64) -> Show {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Show { bar, epochs, last: Instant::now() }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(e) => self.step(e),
            Event::Validation { batch, batches } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*batches as u64);
                    bar.set_position(*batch as u64);
                    bar.set_message("validation");
                }
            }
            Event::Epoch(record) => self.line(&epoch_line(record, self.epochs)),
            Event::Best(file) => self.line(&format!("the best so far is kept: {}", file.display())),
            Event::Saved(_) => {}
        }
    }

    fn step(&mut self, e: &StepEvent) {
        let figures = format!(
            "loss {:.4}  accuracy {:.2} %  {:.0} images/s  {} left",
            e.loss,
            e.accuracy * 100.0,
            e.images_per_s,
            time(e.remaining)
        );
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("epoch {}/{}", e.epoch, self.epochs));
            bar.set_length(e.batches);
            bar.set_position(e.batch);
            bar.set_message(figures);
        } else if self.last.elapsed() >= INTERVAL {
            self.line(&format!("epoch {}/{}  step {}/{}  {figures}", e.epoch, self.epochs, e.batch, e.batches));
        }
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.last = Instant::now();
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn epoch_line(r: &Record, epochs: u64) -> String {
    let validation = r.validation.map_or_else(String::new, |(loss, accuracy)| {
        format!("  validation loss {loss:.4}  accuracy {:.2} %", accuracy * 100.0)
    });
    let speed = r.images_per_s.map_or_else(String::new, |v| format!("  {v:.0} images/s"));
    let accuracy = r.accuracy * 100.0;
    format!(
        "epoch {}/{epochs}  loss {:.4}  accuracy {accuracy:.2} %{validation}  lr {:.3e}{speed}",
        r.epoch, r.loss, r.lr
    )
}

/// Hours, minutes and seconds.
fn time(duration: Duration) -> String {
    let s = duration.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_well() {
        let record = Record {
            epoch: 2,
            step: 9,
            lr: 1e-3,
            loss: 0.12345,
            accuracy: 0.9,
            validation: Some((0.5, 0.875)),
            images_per_s: Some(1234.5),
        };
        let want = "epoch 2/4  loss 0.1235  accuracy 90.00 %  validation loss 0.5000  accuracy 87.50 %  lr 1.000e-3  1234 images/s";
        assert_eq!(epoch_line(&record, 4), want);
        let times = [59, 61, 3700].map(|s| time(Duration::from_secs(s)));
        assert_eq!(times, ["59 s", "1 min 1 s", "1 h 1 min"]);
    }
}
