//! The images of a training: sets, their split and the way to the network's input.

use super::options::Settings;
use crate::cli::{Failure, eval, pixels};
use dorefa_runtime::data::{
    DataSet, DataSpec, Loader, LoaderOptions, Split, Subset, Transform, check, split_validation,
};
use dorefa_runtime::train::Step;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The images to train on and those to evaluate on after each epoch.
pub struct Images {
    /// Trained on.
    pub train: Loader,
    /// Evaluated on.
    pub validation: Option<Loader>,
}

/// Opens the sets of a training and checks that they fit the network.
///
/// # Errors
/// When a set cannot be opened, or its pictures or labels do not fit.
pub fn open(
    settings: &Settings,
    step: &dyn Step,
    metadata: &BTreeMap<String, String>,
    threads: usize,
) -> Result<Images, Failure> {
    let shape: [usize; 3] = step.sample_shape().try_into().map_err(|shape| {
        Failure::input(format!("the network's input has shape {shape:?} a sample; training takes pictures [C, H, W]"))
    })?;
    let normalise = match settings.normalize.as_str() {
        "" => pixels::default_normalise(metadata),
        text => eval::parse(text)?,
    };
    let mut transform = Transform::fit(shape, settings.resize || pixels::resizes(metadata), normalise);
    transform.augment = settings.augment.parse().map_err(|e| Failure::input(format!("--augment: {e}")))?;
    let (train, validation) = sets(settings)?;
    for set in [Some(&train), validation.as_ref()].into_iter().flatten() {
        check(&**set, &transform, shape, step.classes()).map_err(Failure::input)?;
    }
    let loader = |set, train| {
        let drop_last = train && settings.drop_last;
        let (batch, seed) = (settings.batch, settings.seed);
        Loader::new(set, LoaderOptions { batch, threads, seed, train, drop_last, transform: transform.clone() })
    };
    Ok(Images { train: loader(train, true), validation: validation.map(|set| loader(set, false)) })
}

/// A set to train on and one to evaluate on.
type Sets = (Arc<dyn DataSet>, Option<Arc<dyn DataSet>>);

fn sets(settings: &Settings) -> Result<Sets, Failure> {
    let open = |spec: &str, split| DataSpec::parse(spec).and_then(|s| s.open(split)).map_err(Failure::input);
    let limit = |set: Arc<dyn DataSet>| match settings.limit {
        n if n == 0 || n >= set.len() => set,
        n => Arc::new(Subset::sample(set, n, settings.seed)) as Arc<dyn DataSet>,
    };
    let whole = limit(open(&settings.data, Split::Train)?);
    if settings.validation > 0.0 {
        let (train, validation) =
            split_validation(&whole, settings.validation, settings.seed).map_err(Failure::input)?;
        return Ok((Arc::new(train), Some(Arc::new(validation))));
    }
    let test = match settings.test.as_deref() {
        Some("none") => None,
        Some(spec) => Some(open(spec, Split::Test)?),
        None => Some(open(&settings.data, Split::Test).map_err(|e| match e {
            Failure::Input(text) => {
                Failure::Input(format!("{text}; or give --test SPEC, --test none or --validation 0.1"))
            }
            other => other,
        })?),
    };
    Ok((whole, test.map(limit)))
}
