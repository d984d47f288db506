//! The options of a training: what the command line says, else what the checkpoint that is resumed says, else defaults.

use crate::cli::Failure;
use dorefa_runtime::train::schedule::{Schedule, Shape};
use dorefa_runtime::train::{AdamForm, Decay, Hyper, Optimizer, Progress, StepOptions};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// Options that a resumed training takes from its checkpoint where they are not given.
#[derive(clap::Args, Debug, Default)]
pub struct Options {
    /// The data set: FORMAT:PATH (see `dorefac eval --help`), its training split
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// The data set whose test split is evaluated after each epoch, where it is not that of --data; none: no evaluation
    #[arg(long, value_name = "SPEC")]
    test: Option<String>,
    /// Evaluate on this fraction of the training images instead, which are not trained on
    #[arg(long, value_name = "FRACTION")]
    validation: Option<f64>,
    /// Keep the checkpoint with the best accuracy on the test or validation images here: .safetensors; none: no longer
    #[arg(long, value_name = "FILE")]
    best: Option<String>,
    /// At most so many images of each set
    #[arg(long, value_name = "IMAGES")]
    limit: Option<usize>,
    /// Epochs in all [default: 20]
    #[arg(long)]
    epochs: Option<u64>,
    /// Images of a step [default: 128]
    #[arg(long)]
    batch: Option<usize>,
    /// Leave out the last images of an epoch where they are fewer than a batch
    #[arg(long)]
    drop_last: bool,
    /// Learning rate [default: 1e-3, 1e-2 for sgd]
    #[arg(long)]
    lr: Option<f64>,
    /// sgd, adam (TensorFlow's form) or adam-pytorch [default: adam]
    #[arg(long)]
    optimizer: Option<Optimizer>,
    /// Adam's β₁, or the momentum of sgd [default: 0.9]
    #[arg(long)]
    beta1: Option<f64>,
    /// Adam's β₂ [default: 0.999]
    #[arg(long)]
    beta2: Option<f64>,
    /// Adam's ε [default: 1e-5]
    #[arg(long)]
    epsilon: Option<f64>,
    /// Weight decay of all weights, not of biases and batch norm's parameters [default: 0]
    #[arg(long, value_name = "FACTOR")]
    weight_decay: Option<f64>,
    /// How the weight decay enters: l2 or decoupled [default: l2]
    #[arg(long, value_name = "KIND")]
    decay: Option<Decay>,
    /// Running statistics = momentum · old + (1 − momentum) · the batch's [default: 0.9]
    #[arg(long, value_name = "MOMENTUM")]
    bn_momentum: Option<f64>,
    /// constant, step:EPOCH,EPOCH:FACTOR, exponential:FACTOR:EPOCHS, cosine or cosine:END [default: constant]
    #[arg(long)]
    schedule: Option<Shape>,
    /// Epochs over which the learning rate rises from 0 [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
    /// Seed of the first weights, the order, the augmentation and the noise [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    /// none, or of pad=PIXELS,flip,brightness=B,contrast=LO:HI [default: none]
    #[arg(long, value_name = "LIST")]
    augment: Option<String>,
    /// Pixels as (scale·pixel − mean)/std: scale=S,mean=A:B:C,std=A:B:C; where absent as the model says, else pixel/255
    #[arg(long, value_name = "SPEC")]
    normalize: Option<String>,
    /// Scale pictures of another size to the model's
    #[arg(long)]
    resize: bool,
}

/// The options in full.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the training set.
    pub data: String,
    /// Of the test set; `None`: the training set's.
    pub test: Option<String>,
    /// Fraction held out for validation; 0: none.
    pub validation: f64,
    /// Where the best checkpoint is kept.
    pub best: Option<PathBuf>,
    /// At most so many images; 0: all.
    pub limit: usize,
    pub epochs: u64,
    pub batch: usize,
    pub drop_last: bool,
    pub step: StepOptions,
    pub hyper: Hyper,
    pub schedule: Schedule,
    pub seed: u64,
    pub augment: String,
    /// Empty: as the model says.
    pub normalize: String,
    pub resize: bool,
}

/// What the checkpoint says.
struct Stored<'a>(Option<&'a Progress>);

impl Stored<'_> {
    /// The option `key`: as given, as stored, or the default.
    fn pick<T: FromStr + Clone>(&self, given: &Option<T>, key: &str, default: T) -> Result<T, Failure> {
        if let Some(value) = given {
            return Ok(value.clone());
        }
        let text = self.0.and_then(|p| p.notes.get(key).or_else(|| p.options.get(key)));
        let bad = |t: &String| Failure::input(format!("the checkpoint's option {key} = {t} is damaged; give --{key}"));
        text.map_or(Ok(default), |t| t.parse().map_err(|_| bad(t)))
    }

    /// A number, checked to lie in `range` as the message says it.
    fn number<T>(
        &self,
        given: &Option<T>,
        key: &str,
        default: T,
        fits: impl Fn(&T) -> bool,
        range: &str,
    ) -> Result<T, Failure>
    where
        T: FromStr + Clone + Display,
    {
        let value = self.pick(given, key, default)?;
        if fits(&value) { Ok(value) } else { Err(Failure::input(format!("--{key} {value}: it must be {range}"))) }
    }
}

impl Options {
    /// The options in full; `progress` is that of the checkpoint that is resumed.
    ///
    /// # Errors
    /// When an option is missing or out of its range.
    pub fn resolve(&self, progress: Option<&Progress>) -> Result<Settings, Failure> {
        let stored = Stored(progress);
        let data = stored.pick(&self.data, "data", String::new())?;
        if data.is_empty() {
            return Err(Failure::input("--data is missing; name the data set, for example idx:PATH or digits"));
        }
        let test = stored.pick(&self.test, "test", String::new())?;
        let best = stored.pick(&self.best, "best", String::new())?;
        let drop_last = self.drop_last.then_some(true);
        let resize = self.resize.then_some(true);
        let (step, hyper) = self.optimization(&stored)?;
        let whole = "0 or more";
        Ok(Settings {
            data,
            test: Some(test).filter(|t| !t.is_empty()),
            validation: stored.number(
                &self.validation,
                "validation",
                0.0,
                |v| (0.0..1.0).contains(v),
                "0 or more and below 1",
            )?,
            best: Some(best).filter(|b| !b.is_empty() && b != "none").map(PathBuf::from),
            limit: stored.pick(&self.limit, "limit", 0)?,
            epochs: stored.pick(&self.epochs, "epochs", 20)?,
            batch: stored.number(&self.batch, "batch", 128, |b| *b > 0, "1 or more")?,
            drop_last: stored.pick(&drop_last, "drop-last", false)?,
            step,
            hyper,
            schedule: Schedule {
                shape: stored.pick(&self.schedule, "schedule", Shape::Constant)?,
                warmup: stored.number(&self.warmup, "warmup", 0.0, |v| v.is_finite() && *v >= 0.0, whole)?,
            },
            seed: stored.pick(&self.seed, "seed", 1)?,
            augment: stored.pick(&self.augment, "augment", "none".to_owned())?,
            normalize: stored.pick(&self.normalize, "normalize", String::new())?,
            resize: stored.pick(&resize, "resize", false)?,
        })
    }

    /// The optimiser and its numbers.
    fn optimization(&self, stored: &Stored<'_>) -> Result<(StepOptions, Hyper), Failure> {
        let fraction = |v: &f64| (0.0..1.0).contains(v);
        let positive = |v: &f64| v.is_finite() && *v > 0.0;
        let (below_one, above_zero) = ("0 or more and below 1", "above 0");
        let optimizer = stored.pick(&self.optimizer, "optimizer", Optimizer::Adam { form: AdamForm::TensorFlow })?;
        let lr = if optimizer == Optimizer::Sgd { 1e-2 } else { 1e-3 };
        let not_negative = |v: &f64| v.is_finite() && *v >= 0.0;
        let weight_decay = stored.number(&self.weight_decay, "weight-decay", 0.0, not_negative, "0 or more")?;
        let decay = match stored.pick(&self.decay, "decay", if weight_decay > 0.0 { Decay::L2 } else { Decay::None })? {
            Decay::None if weight_decay > 0.0 => {
                return Err(Failure::input("--decay none contradicts --weight-decay; leave one out"));
            }
            Decay::L2 | Decay::Decoupled if weight_decay == 0.0 => {
                return Err(Failure::input("--decay needs a factor; give --weight-decay FACTOR, for example 1e-4"));
            }
            decay => decay,
        };
        let hyper = Hyper {
            lr: stored.number(&self.lr, "lr", lr, positive, above_zero)?,
            beta1: stored.number(&self.beta1, "beta1", 0.9, fraction, below_one)?,
            beta2: stored.number(&self.beta2, "beta2", 0.999, fraction, below_one)?,
            epsilon: stored.number(&self.epsilon, "epsilon", 1e-5, positive, above_zero)?,
            weight_decay,
            bn_momentum: stored.number(&self.bn_momentum, "bn-momentum", 0.9, fraction, below_one)?,
            ..Hyper::default()
        };
        Ok((StepOptions { optimizer, decay }, hyper))
    }
}

impl Settings {
    /// What determines the result and is not among the trainer's own options; a resume must agree in it.
    pub fn about(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("validation", self.validation.to_string()),
            ("limit", self.limit.to_string()),
            ("batch", self.batch.to_string()),
            ("drop-last", self.drop_last.to_string()),
            ("optimizer", self.step.optimizer.to_string()),
            ("decay", self.step.decay.to_string()),
            ("augment", self.augment.clone()),
            ("normalize", self.normalize.clone()),
            ("resize", self.resize.to_string()),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// What a resume takes over but may change.
    pub fn notes(&self) -> BTreeMap<String, String> {
        let test = self.test.clone().unwrap_or_default();
        let best = self.best.as_ref().map(|b| ("best", b.display().to_string()));
        let pairs = [("data", self.data.clone()), ("test", test), ("epochs", self.epochs.to_string())];
        pairs.into_iter().chain(best).map(|(k, v)| (k.to_owned(), v)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_then_stored_then_default() {
        let given = Options { data: Some("digits".into()), batch: Some(7), lr: Some(0.5), ..Options::default() };
        let first = given.resolve(None).unwrap();
        assert_eq!((first.batch, first.epochs, first.hyper.lr, first.seed), (7, 20, 0.5, 1));
        let progress = Progress { options: first.about(), notes: first.notes(), ..Progress::default() };
        let second = Options { epochs: Some(3), ..Options::default() }.resolve(Some(&progress)).unwrap();
        assert_eq!((second.data.as_str(), second.batch, second.epochs), ("digits", 7, 3));
        assert_eq!(second.about(), first.about());
    }

    #[test]
    fn wrong_options_name_themselves() {
        let data = || Options { data: Some("digits".into()), ..Options::default() };
        let refused = |options: Options| match options.resolve(None) {
            Err(Failure::Input(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(refused(Options::default()).contains("--data"));
        assert!(refused(Options { batch: Some(0), ..data() }).contains("--batch 0"));
        assert!(refused(Options { lr: Some(f64::NAN), ..data() }).contains("--lr NaN"));
        assert!(refused(Options { beta1: Some(1.0), ..data() }).contains("--beta1"));
        assert!(refused(Options { validation: Some(1.0), ..data() }).contains("--validation"));
        assert!(refused(Options { decay: Some(Decay::Decoupled), ..data() }).contains("--weight-decay"));
        let both = Options { decay: Some(Decay::None), weight_decay: Some(0.1), ..data() };
        assert!(refused(both).contains("contradicts"));
        let decoupled = Options { decay: Some(Decay::Decoupled), weight_decay: Some(0.1), ..data() };
        assert_eq!(decoupled.resolve(None).unwrap().step.decay, Decay::Decoupled);
        assert_eq!(Options { weight_decay: Some(0.1), ..data() }.resolve(None).unwrap().step.decay, Decay::L2);
        let sgd = Options { optimizer: Some(Optimizer::Sgd), ..data() };
        assert_eq!(sgd.resolve(None).unwrap().hyper.lr, 1e-2);
    }
}
