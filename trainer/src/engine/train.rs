//! The training loop (method.md, section 5), and the state after each epoch from which an interrupted job goes on.
//!
//! Rule of this file: every draw derives from (seed, data set, epoch, step), so that an epoch done again is the same epoch.

use std::collections::BTreeMap;
use std::time::Instant;

use promptfield_core::job::layout::STATE_FILE;
use promptfield_core::job::spec::SpecHash;
use promptfield_core::job::unfinished::Reached;
use promptfield_core::names::Precision;
use tch::{Kind, Tensor};

use super::checkpoint::{self, CheckpointError};
use super::error::JobError;
use super::evaluate::{evaluate_rates, is_finite, not_finite};
use super::job::Inputs;
use super::loader::each_prefetched;
use super::log::{EpochMeters, Position, epoch_line};
use super::report::Report;
use super::score::Rates;
use crate::data::Item;
use crate::draws::epoch_order;
use crate::image::{AugmentationDraws, load_batch_train};
use crate::loss_scale::LossScaling;
use crate::methods::values::Interim;
use crate::methods::{Evaluated, Model, NamedTensors, TrainingLoss};
use crate::optimiser::{Optimiser, learning_rate};
use promptfield_output::WorkFolder;

/// An epoch's last batch is always logged, and every so many before it.
const LOG_EVERY: u32 = 20;

const PARAMETER: &str = "parameter/";
const OPTIMISER: &str = "optimiser/";

/// Batches of an epoch: a last short one is dropped, unless it's the only one.
pub(super) fn batches(images: usize, batch: u32) -> u32 {
    (images as u32 / batch).max(1)
}

/// Whether the job is to be evaluated after `epochs` of `all` epochs; after the last it is in any case.
pub(super) fn evaluates_after(interim: Interim, all: u32, epochs: u32) -> bool {
    let every = interim.every_epochs;
    every > 0 && epochs.is_multiple_of(every) && epochs < all
}

/// A training of which an earlier attempt completed some epochs.
pub(super) struct Begun {
    pub(super) epochs: u32,
    pub(super) parameters: NamedTensors,
    optimiser: NamedTensors,
}

impl Begun {
    /// Reads what an earlier attempt left in `folder`.
    pub(super) fn read(folder: &WorkFolder, spec_hash: SpecHash) -> Result<Option<Self>, CheckpointError> {
        let (reached, tensors) = match checkpoint::read::<Reached>(&folder.file(STATE_FILE)) {
            Ok(state) => state,
            Err(CheckpointError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let part = |prefix| {
            let named = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
            };
            tensors.iter().filter_map(named).collect()
        };
        Ok((reached.spec_hash == spec_hash).then(|| Self {
            epochs: reached.epochs,
            parameters: part(PARAMETER),
            optimiser: part(OPTIMISER),
        }))
    }
}

/// Trains `model` to the last epoch, leaving the state of each in `folder`.
pub(super) fn train(
    inputs: &Inputs,
    model: &dyn Model,
    begun: Option<&Begun>,
    folder: &WorkFolder,
    report: &mut Report,
) -> Result<(), JobError> {
    let schedule = &inputs.schedule;
    let mut optimiser = model.optimiser(schedule.weight_decay);
    if inputs.spec.precision == Precision::AmpFp16 {
        optimiser = Box::new(LossScaling::new(optimiser));
    }
    let first = match begun {
        Some(begun) => {
            optimiser.restore(&begun.optimiser)?;
            begun.epochs
        }
        None => 0,
    };
    let mut load = Loading::new(inputs, first);
    let (batches, mut meters, mut began) = (load.batches, EpochMeters::default(), Instant::now());
    // The next epoch's first batches are prepared while this one's state is written.
    each_prefetched(
        (schedule.epochs - first) as usize * batches as usize,
        |_| load.next(),
        |step, (pixels, items), waited| {
            inputs.go_on()?;
            let (epoch, batch) = (first + step as u32 / batches, step as u32 % batches);
            let step = u64::from(epoch) * u64::from(batches) + u64::from(batch);
            let at = Position { epoch: epoch + 1, epochs: schedule.epochs, batch: batch + 1, batches };
            let lr = learning_rate(schedule, epoch);
            let labels: Vec<i64> = items.iter().map(|item| item.label as i64).collect();
            let labels = Tensor::from_slice(&labels).to_device(inputs.device);
            let loss = model.training_loss(&inputs.to_device(&pixels), &labels);
            optimiser.step(&loss.total, lr);
            let mut values = values(model, &loss, &labels)?;
            let diverged = |what| JobError::Diverged { what, step, epoch: at.epoch, batch: at.batch };
            // Before the first step there was nothing to diverge, and no learning rate would help.
            if step == 0 && !values["loss"].is_finite() {
                let what = not_finite(inputs, &loss.logits, &loss.logits.fused(), items)?;
                return Err(inputs.not_finite(what, false));
            }
            if !values["loss"].is_finite() {
                return Err(diverged(format!("the loss is {}", values["loss"])));
            }
            // Between two steps the next loss tells; after the last one nothing else would.
            if at.batch == batches
                && let Some(name) = parameter_that_is_not_finite(model)
            {
                return Err(diverged(format!("the parameter `{name}` is not finite")));
            }
            meters.data.add(waited.as_secs_f64());
            meters.time.add(began.elapsed().as_secs_f64());
            meters.loss.add(values["loss"]);
            meters.accuracy.add(values["acc"]);
            values.insert("lr".to_owned(), lr);
            report.metrics(step, &values);
            if at.batch == batches || at.batch.is_multiple_of(LOG_EVERY) {
                let line = epoch_line(at, &meters, lr);
                report.log(&line)?;
            }
            report.step(at.batch == batches);
            if at.batch == batches {
                end_epoch(inputs, model, optimiser.as_ref(), at.epoch, folder, report)?;
                meters = EpochMeters::default();
            }
            began = Instant::now();
            Ok(())
        },
    )
}

/// Prepares the batches of a training, one after the other.
struct Loading<'a> {
    inputs: &'a Inputs<'a>,
    /// Of an epoch.
    batches: u32,
    /// The next one's.
    epoch: u32,
    batch: u32,
    /// In which order this epoch sees the images.
    order: Vec<usize>,
}

impl<'a> Loading<'a> {
    /// From the first batch of an epoch on.
    fn new(inputs: &'a Inputs, epoch: u32) -> Self {
        let batches = batches(inputs.split.train.len(), inputs.schedule.train_batch);
        Self { inputs, batches, epoch, batch: 0, order: Vec::new() }
    }

    /// The next batch: pixels `[B·3·S·S]` and the images that they are of.
    fn next(&mut self) -> Result<(Vec<f32>, Vec<&'a Item>), JobError> {
        let (spec, train) = (self.inputs.spec, &self.inputs.split.train);
        if self.batch == 0 {
            self.order = epoch_order(spec.seed, &spec.dataset, self.epoch, train.len());
        }
        let size = train.len().min(self.inputs.schedule.train_batch as usize);
        let items: Vec<_> =
            self.order[self.batch as usize * size..][..size].iter().map(|&index| &train[index]).collect();
        let paths: Vec<_> = items.iter().map(|item| item.path.as_path()).collect();
        let draws = AugmentationDraws::new(spec.seed, &spec.dataset, self.epoch, self.batch);
        let pixels = load_batch_train(self.inputs.images, &paths, self.inputs.image_size, &self.inputs.scale, &draws)?;
        self.batch += 1;
        if self.batch == self.batches {
            (self.epoch, self.batch) = (self.epoch + 1, 0);
        }
        Ok((pixels, items))
    }
}

/// Saves the state after `done` epochs, and evaluates if it's time to.
fn end_epoch(
    inputs: &Inputs,
    model: &dyn Model,
    optimiser: &dyn Optimiser,
    done: u32,
    folder: &WorkFolder,
    report: &mut Report,
) -> Result<(), JobError> {
    let epochs = inputs.schedule.epochs;
    save(inputs, model, optimiser, done, folder)?;
    if evaluates_after(inputs.interim, epochs, done) {
        let Rates { accuracy, macro_f1 } = evaluate_rates(inputs, model, report)?;
        let text = format!("epoch [{done}/{epochs}] test accuracy {accuracy:.1}% macro_f1 {macro_f1:.1}%");
        report.log(&text)?;
    }
    Ok(())
}

/// The first parameter that isn't made of finite numbers.
fn parameter_that_is_not_finite(model: &dyn Model) -> Option<&str> {
    let _guard = tch::no_grad_guard();
    let mut parameters = model.parameters().named().iter();
    parameters.find(|(_, tensor)| !is_finite(tensor)).map(|(name, _)| name.as_str())
}

/// The step's numbers by name, brought from the device at once: `loss`, `acc` in per cent, and `loss/…` for each term.
fn values(model: &dyn Model, loss: &TrainingLoss, labels: &Tensor) -> Result<BTreeMap<String, f64>, JobError> {
    let _guard = tch::no_grad_guard();
    let predicted = loss.logits.by(model.inference(Evaluated::Trained)).argmax(-1, false);
    let accuracy = predicted.eq_tensor(labels).to_kind(Kind::Double).mean(Kind::Double) * 100.0;
    let terms = loss.terms.iter().chain(&loss.watched);
    let (names, tensors): (Vec<String>, Vec<Tensor>) =
        [("loss".to_owned(), &loss.total), ("acc".to_owned(), &accuracy)]
            .into_iter()
            .chain(terms.map(|(name, value)| (format!("loss/{name}"), value)))
            .map(|(name, value)| (name, value.to_kind(Kind::Double).view(1)))
            .unzip();
    let numbers = Vec::<f64>::try_from(Tensor::cat(&tensors, 0))?;
    Ok(names.into_iter().zip(numbers).collect())
}

/// Writes the state after `epochs` epochs in the place of the one before.
fn save(
    inputs: &Inputs,
    model: &dyn Model,
    optimiser: &dyn Optimiser,
    epochs: u32,
    folder: &WorkFolder,
) -> Result<(), JobError> {
    let mut tensors = NamedTensors::new();
    for (name, tensor) in model.parameters().named() {
        tensors.insert(format!("{PARAMETER}{name}"), tensor.detach());
    }
    for (name, tensor) in optimiser.state() {
        tensors.insert(format!("{OPTIMISER}{name}"), tensor);
    }
    let reached = Reached { spec_hash: inputs.spec.hash(), epochs };
    checkpoint::write(&folder.file(STATE_FILE), &reached, &tensors).map_err(|error| folder.error(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_batch_is_dropped_unless_it_is_the_only_one() {
        assert_eq!([(1, 4), (4, 4), (7, 4), (8, 4)].map(|(images, batch)| batches(images, batch)), [1, 1, 1, 2]);
    }

    #[test]
    fn interim_evaluations_leave_the_last_epoch_out() {
        let after = |every_epochs| {
            (1..=6).filter(|&epochs| evaluates_after(Interim { every_epochs }, 6, epochs)).collect::<Vec<_>>()
        };
        assert_eq!((after(0), after(2), after(5)), (vec![], vec![2, 4], vec![5]));
    }
}
