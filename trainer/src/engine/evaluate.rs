//! Evaluation on all test images of the job's classes (method.md, section 4).

use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::outcome::TestResult;
use tch::{Kind, Tensor};

use super::error::JobError;
use super::job::Inputs;
use super::loader::each_prefetched;
use super::report::Report;
use super::score::{FullScore, Rates, Score};
use crate::data::Item;
use crate::image::load_batch_test;
use crate::methods::{Evaluated, Logits, Model};

/// Evaluation steps for so many test images.
pub(super) const fn batches(images: usize, batch: u32) -> usize {
    images.div_ceil(batch as usize)
}

/// Classifies every test image, and counts all that a job's result holds.
pub(super) fn evaluate(
    inputs: &Inputs,
    model: &dyn Model,
    evaluated: Evaluated,
    report: &mut Report,
) -> Result<(TestResult, Evaluation), JobError> {
    let mut score = FullScore::new(inputs.split.classnames.len());
    classify(inputs, model, evaluated, report, |logits, items| {
        let confidences = Vec::<f32>::try_from(logits.softmax(-1, Kind::Float).amax([-1_i64], false))?;
        for ((item, predicted), confidence) in items.iter().zip(predicted(logits)?).zip(confidences) {
            score.add(predicted, item.label, f64::from(confidence));
        }
        Ok(())
    })?;
    Ok((score.result(), score.evaluation(&inputs.split.classnames)))
}

/// Classifies every test image for the two numbers that a training logs on its way.
pub(super) fn evaluate_rates(inputs: &Inputs, model: &dyn Model, report: &mut Report) -> Result<Rates, JobError> {
    let mut score = Score::new(inputs.split.classnames.len());
    classify(inputs, model, Evaluated::Trained, report, |logits, items| {
        items.iter().zip(predicted(logits)?).for_each(|(item, predicted)| score.add(predicted, item.label));
        Ok(())
    })?;
    Ok(score.rates())
}

/// The label of each image.
fn predicted(logits: &Tensor) -> Result<impl Iterator<Item = usize> + use<>, JobError> {
    let labels = Vec::<i64>::try_from(logits.argmax(-1, false))?;
    Ok(labels.into_iter().map(|label| label as usize))
}

pub(super) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

/// Whose features made logits of a batch that aren't finite: the first such class, or else the first image.
pub(super) fn not_finite<'a>(
    inputs: &Inputs,
    logits: &Logits,
    deciding: &Tensor,
    images: impl IntoIterator<Item = &'a Item>,
) -> Result<String, JobError> {
    let first = |rows: &Tensor| -> Result<Option<usize>, JobError> {
        let finite = Vec::<bool>::try_from(rows.isfinite().all_dim(-1, false))?;
        Ok(finite.into_iter().position(|finite| !finite))
    };
    if let Some(class) = first(&logits.texts)? {
        return Ok(format!("the text features of the class `{}` are", inputs.split.classnames[class]));
    }
    let image = first(deciding)?.and_then(|row| images.into_iter().nth(row));
    Ok(image.map_or_else(
        || "the loss of the batch is".to_owned(),
        |image| format!("the image features of `{}` are", image.path.display()),
    ))
}

/// Hands the logits that decide [B, C] of each batch of test images on, with the images.
fn classify(
    inputs: &Inputs,
    model: &dyn Model,
    evaluated: Evaluated,
    report: &mut Report,
    mut take: impl FnMut(&Tensor, &[Item]) -> Result<(), JobError>,
) -> Result<(), JobError> {
    let _guard = tch::no_grad_guard();
    let size = inputs.schedule.test_batch as usize;
    let batches: Vec<&[Item]> = inputs.split.test.chunks(size).collect();
    let classifier = model.classifier();
    let inference = model.inference(evaluated);
    each_prefetched(
        batches.len(),
        |index| {
            let paths: Vec<_> = batches[index].iter().map(|item| item.path.as_path()).collect();
            load_batch_test(inputs.images, &paths, inputs.image_size, &inputs.scale).map_err(JobError::from)
        },
        |index, pixels, _| {
            inputs.go_on()?;
            let logits = classifier(&inputs.to_device(&pixels));
            let deciding = logits.by(inference);
            if !is_finite(&deciding) {
                let what = not_finite(inputs, &logits, &deciding, batches[index])?;
                return Err(inputs.not_finite(what, inputs.spec.learns()));
            }
            take(&deciding, batches[index])?;
            report.step(false);
            Ok(())
        },
    )
}
