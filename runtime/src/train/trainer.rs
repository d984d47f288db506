//! The loop of a training: epochs, validation, checkpoints, and what it tells its observer.

use super::best;
use super::checkpoint::Checkpoint;
use super::error::TrainError;
use super::history::{Record, to_table};
use super::plot;
use super::progress::Progress;
use super::schedule::Schedule;
use super::source::Source;
use super::step::{Hyper, Step, StepError};
use crate::io;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a training needs to know besides its data and its step.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Epochs in all, those before a resume included.
    pub epochs: u64,
    /// Seed of the noise and of dropout. The data's order has its own, in the source.
    pub seed: u64,
    /// The learning rate's course.
    pub schedule: Schedule,
    /// The numbers of each step; `lr` is the base that the schedule multiplies, step and seed are set by the trainer.
    pub hyper: Hyper,
    /// Where checkpoints go; the table and the plot stand beside them as `.csv` and `.svg`. `None` writes nothing.
    pub output: Option<PathBuf>,
    /// Where the checkpoint of the epoch with the best validation accuracy so far is kept besides; the earlier of equals.
    pub best: Option<PathBuf>,
    /// Also writes a checkpoint whenever so many steps are done; one is written after each epoch in any case.
    pub save_every: Option<u64>,
    /// The graph's native text, for the checkpoint.
    pub graph: Option<String>,
    /// Constants of the graph that are no state, for the checkpoint.
    pub constants: Vec<(String, Tensor)>,
    /// What else determines the result, by name (data, batch, optimiser, …): a resume must agree in it.
    pub about: BTreeMap<String, String>,
    /// What a resume may want to know and may change, by name.
    pub notes: BTreeMap<String, String>,
}

/// What the observer of [`Trainer::fit`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Save and return.
    Stop,
}

/// What the observer sees. Answers to [`Event::Epoch`], [`Event::Best`] and [`Event::Saved`] are ignored.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step(StepEvent),
    /// A batch of the validation images is done.
    Validation {
        /// Batches done.
        batch: usize,
        /// Batches in all.
        batches: usize,
    },
    /// An epoch is done.
    Epoch(&'a Record),
    /// The checkpoint of the best epoch so far is written.
    Best(&'a Path),
    /// A checkpoint is written.
    Saved(&'a Path),
}

/// A step that was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepEvent {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Steps of the epoch that are done.
    pub batch: u64,
    /// Steps of an epoch.
    pub batches: u64,
    /// Steps of the training that are done.
    pub step: u64,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy of the epoch so far.
    pub accuracy: f64,
    /// The step's learning rate.
    pub lr: f64,
    /// Images a second, over this epoch.
    pub images_per_s: f64,
    /// Estimated time that the rest takes.
    pub remaining: Duration,
}

/// How a call of [`Trainer::fit`] ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Whether the observer stopped it.
    pub interrupted: bool,
    /// Steps done.
    pub step: u64,
    /// The epochs done.
    pub history: Vec<Record>,
    /// The best of them, see [`Progress::best`].
    pub best: Option<Record>,
}

/// Times of one call of `fit`.
struct Clock {
    start: Instant,
    steps: u64,
    epoch: Instant,
    images: usize,
}

impl Clock {
    fn images_per_s(&self) -> f64 {
        self.images as f64 / self.epoch.elapsed().as_secs_f64().max(1e-9)
    }
}

/// Trains a step on data.
pub struct Trainer<'a> {
    step: &'a mut dyn Step,
    options: TrainOptions,
    progress: Progress,
    saved: bool,
}

impl<'a> Trainer<'a> {
    /// A training from the state that `step` has.
    pub fn new(step: &'a mut dyn Step, options: TrainOptions) -> Self {
        let progress = Progress { options: describe(&options), notes: options.notes.clone(), ..Progress::default() };
        Trainer { step, options, progress, saved: false }
    }

    /// Continues a checkpoint: the result is the same, bit by bit, as without the interruption. Where the best checkpoint
    /// that it speaks of is no longer at [`TrainOptions::best`], the best epoch is sought anew from here on.
    ///
    /// # Errors
    /// When the checkpoint holds no training, another graph or other options, or tensors that do not fit; the state is as
    /// it was then.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let stored = checkpoint.progress()?;
        let mut problems = Vec::new();
        if checkpoint.graph != self.options.graph {
            problems.push("was trained from another graph; resume with that one, or pass it as --init".to_owned());
        }
        let now = &self.progress.options;
        let keys: std::collections::BTreeSet<_> = stored.options.keys().chain(now.keys()).collect();
        for key in keys.into_iter().filter(|k| stored.options.get(*k) != now.get(*k)) {
            let show = |map: &BTreeMap<String, String>| map.get(key).map_or("nothing", String::as_str).to_owned();
            let (was, is) = (show(&stored.options), show(now));
            problems.push(format!("was trained with {key} = {was}, now it is {is}; resume with the same options"));
        }
        if !problems.is_empty() {
            return Err(checkpoint.problem(problems));
        }
        checkpoint.restore(self.step, true)?;
        let notes = std::mem::take(&mut self.progress.notes);
        let best = self.options.best.as_deref().map_or(stored.best, |path| best::resumed(path, stored));
        self.progress = Progress { notes, best, ..stored.clone() };
        Ok(())
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains until the epochs are done or `observer` stops it; `validation` is evaluated after each epoch.
    ///
    /// # Errors
    /// When the data fail, a step refuses, a number is not finite, or a file cannot be written; before any work when the
    /// best checkpoint cannot be told or kept.
    pub fn fit(
        &mut self,
        train: &dyn Source,
        validation: Option<&dyn Source>,
        observer: &mut dyn FnMut(&Event<'_>) -> Control,
    ) -> Result<Summary, TrainError> {
        for (what, source) in [("training", Some(train)), ("validation", validation)] {
            if let Some(source) = source.filter(|s| s.batches() == 0) {
                return Err(TrainError::Empty { what, images: source.images() });
            }
        }
        if let Some(path) = &self.options.best {
            best::check(path, self.options.output.as_deref(), validation.is_some())?;
        }
        let now = Instant::now();
        let mut clock = Clock { start: now, steps: 0, epoch: now, images: 0 };
        while self.progress.epoch < self.options.epochs {
            let speed = match self.epoch(train, &mut clock, observer)? {
                Control::Stop => return self.interrupted(observer),
                Control::Continue => (clock.images != 0).then(|| clock.images_per_s()),
            };
            let measured = match validation.map(|v| self.validate(v, observer)).transpose()? {
                Some(None) => return self.interrupted(observer),
                other => other.flatten(),
            };
            let record = self.record(train.batches() as u64, measured, speed);
            self.progress.close(record);
            // The best first: if the rest fails, the last checkpoint leads here again.
            self.save_best(observer)?;
            self.save(observer)?;
            if let Some(record) = self.progress.history.last() {
                observer(&Event::Epoch(record));
            }
        }
        if !self.saved {
            self.save(observer)?;
        }
        Ok(self.summary(false))
    }

    fn summary(&self, interrupted: bool) -> Summary {
        let progress = &self.progress;
        let (history, best) = (progress.history.clone(), progress.best_record().cloned());
        Summary { interrupted, step: progress.step, history, best }
    }

    fn interrupted(&mut self, observer: &mut dyn FnMut(&Event<'_>) -> Control) -> Result<Summary, TrainError> {
        self.save(observer)?;
        Ok(self.summary(true))
    }

    /// The numbers of step `step`.
    fn hyper(&self, step: u64, per_epoch: u64) -> Hyper {
        let lr = self.options.hyper.lr * self.options.schedule.factor(step, per_epoch, self.options.epochs);
        Hyper { step, seed: [self.options.seed, 0], lr, ..self.options.hyper }
    }

    /// The rest of the current epoch.
    fn epoch(
        &mut self,
        train: &dyn Source,
        clock: &mut Clock,
        observer: &mut dyn FnMut(&Event<'_>) -> Control,
    ) -> Result<Control, TrainError> {
        (clock.epoch, clock.images) = (Instant::now(), 0);
        let batches = train.batches() as u64;
        let first = usize::try_from(self.progress.batch).unwrap_or(usize::MAX);
        if self.progress.batch >= batches {
            return Ok(Control::Continue); // only the validation is left
        }
        for batch in train.epoch(self.progress.epoch, first) {
            let (x, labels) = batch?;
            let hyper = self.hyper(self.progress.step + 1, batches);
            let result = self.step.step(&x, &labels, &hyper).and_then(|result| match result.loss.is_finite() {
                true => Ok(result),
                false => Err(StepError::NonFinite { tensor: None, layer: Some("loss".to_owned()) }),
            });
            let result = result.map_err(|e| self.failed(hyper.step, e))?;
            self.progress.count(&result, labels.len());
            clock.steps += 1;
            clock.images += labels.len();
            if observer(&Event::Step(self.event(&hyper, batches, clock))) == Control::Stop {
                return Ok(Control::Stop);
            }
            if self.options.save_every.is_some_and(|n| self.progress.step.is_multiple_of(n)) {
                self.save(observer)?;
            }
        }
        Ok(Control::Continue)
    }

    fn event(&self, hyper: &Hyper, batches: u64, clock: &Clock) -> StepEvent {
        let (loss, accuracy) = self.progress.means();
        let left = self.options.epochs.saturating_mul(batches).saturating_sub(self.progress.step);
        let step = clock.start.elapsed().as_secs_f64() / clock.steps.max(1) as f64;
        StepEvent {
            epoch: self.progress.epoch + 1,
            batch: self.progress.batch,
            batches,
            step: hyper.step,
            loss,
            accuracy,
            lr: hyper.lr,
            images_per_s: clock.images_per_s(),
            remaining: Duration::try_from_secs_f64(step * left as f64).unwrap_or(Duration::MAX),
        }
    }

    fn failed(&self, step: u64, source: StepError) -> TrainError {
        let epoch = self.progress.epoch + 1;
        match source {
            StepError::NonFinite { .. } => {
                let written = self.options.output.as_ref().filter(|_| self.saved).map(|p| p.display().to_string());
                TrainError::Diverged { step, epoch, source, checkpoint: written }
            }
            source => TrainError::Step { step, epoch, source },
        }
    }

    /// Loss and accuracy on the validation images: `None` where the observer stopped.
    fn validate(
        &mut self,
        source: &dyn Source,
        observer: &mut dyn FnMut(&Event<'_>) -> Control,
    ) -> Result<Option<(f64, f64)>, TrainError> {
        let (mut seen, batches) = (Progress::default(), source.batches());
        for batch in source.epoch(0, 0) {
            let (x, labels) = batch?;
            let result = self.step.evaluate(&x, &labels).map_err(|e| self.failed(self.progress.step, e))?;
            seen.count(&result, labels.len());
            let event = Event::Validation { batch: seen.batch as usize, batches };
            if observer(&event) == Control::Stop {
                return Ok(None);
            }
        }
        let (loss, accuracy) = seen.means();
        if !loss.is_finite() {
            let source = StepError::NonFinite { tensor: None, layer: Some("validation loss".to_owned()) };
            return Err(self.failed(self.progress.step, source));
        }
        Ok(Some((loss, accuracy)))
    }

    fn record(&self, per_epoch: u64, validation: Option<(f64, f64)>, images_per_s: Option<f64>) -> Record {
        let (loss, accuracy) = self.progress.means();
        let step = self.progress.step;
        let lr = self.hyper(step, per_epoch).lr;
        Record { epoch: self.progress.epoch + 1, step, lr, loss, accuracy, validation, images_per_s }
    }

    /// The checkpoint of this moment.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::of(self.step, &self.options.constants, self.options.graph.clone(), self.progress.clone())
    }

    /// Writes the best checkpoint if the epoch that was closed is the best so far.
    fn save_best(&self, observer: &mut dyn FnMut(&Event<'_>) -> Control) -> Result<(), TrainError> {
        let Some(path) = self.options.best.as_ref().filter(|_| self.progress.best == Some(self.progress.epoch)) else {
            return Ok(());
        };
        self.checkpoint().write(path).map_err(TrainError::Write)?;
        observer(&Event::Best(path));
        Ok(())
    }

    /// Writes checkpoint, table and plot.
    fn save(&mut self, observer: &mut dyn FnMut(&Event<'_>) -> Control) -> Result<(), TrainError> {
        let Some(path) = self.options.output.clone() else { return Ok(()) };
        self.checkpoint().write(&path).map_err(TrainError::Write)?;
        self.saved = true;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let history = &self.progress.history;
        let beside = [("csv", to_table(history, self.progress.best)), ("svg", plot::svg(&name, history))];
        for (suffix, text) in beside.into_iter().filter(|_| !history.is_empty()) {
            let written = io::replace(&path.with_extension(suffix), |to| to.write_all(text.as_bytes()));
            written.map_err(TrainError::Write)?;
        }
        observer(&Event::Saved(&path));
        Ok(())
    }
}

/// The options that determine the result, by name.
fn describe(options: &TrainOptions) -> BTreeMap<String, String> {
    let h = &options.hyper;
    let mut all = options.about.clone();
    let numbers = [
        ("lr", h.lr),
        ("beta1", h.beta1),
        ("beta2", h.beta2),
        ("epsilon", h.epsilon),
        ("weight-decay", h.weight_decay),
        ("bn-momentum", h.bn_momentum),
        ("loss-scale", h.loss_scale),
        ("warmup", options.schedule.warmup),
    ];
    all.extend(numbers.map(|(name, value)| (name.to_owned(), value.to_string())));
    all.insert("schedule".to_owned(), options.schedule.shape.to_string());
    all.insert("seed".to_owned(), options.seed.to_string());
    if options.schedule.needs_epochs() {
        all.insert("epochs".to_owned(), options.epochs.to_string());
    }
    all
}
