//! The values of methods as types: a method reads its own out of those of its job, which are of their declared types.

use promptfield_core::input::{InvalidInput, from_value};
use promptfield_core::method::value::Values;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What every method that learns is trained by, and the batch of its evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Passes over the training images.
    pub epochs: u32,
    /// Peak learning rate.
    pub lr: f64,
    /// Epochs at `warmup_lr` before the cosine begins.
    pub warmup_epochs: u32,
    /// Learning rate of the warm-up epochs.
    pub warmup_lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Images of a training step.
    pub train_batch: u32,
    /// Images of an evaluation step.
    pub test_batch: u32,
}

/// When a training is evaluated before its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Interim {
    /// After every so many epochs; 0 for never.
    pub every_epochs: u32,
}

/// Reads what `T` says out of a job's values.
pub fn read<T: DeserializeOwned>(values: &Values) -> Result<T, InvalidInput> {
    from_value(serde_json::json!(values)).map_err(|error| error.under("hyper"))
}
