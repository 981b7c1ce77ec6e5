//! Evaluation on all test images of the job's classes (method.md, section 4).

use promptfield_core::outcome::TestResult;

use super::error::JobError;
use super::job::Inputs;
use super::loader::each_prefetched;
use super::report::Report;
use super::score::Score;
use crate::data::Item;
use crate::image::load_batch_test;
use crate::methods::{Evaluated, Model};

/// Evaluation steps for so many test images.
pub(super) const fn batches(images: usize, batch: u32) -> usize {
    images.div_ceil(batch as usize)
}

/// Classifies every test image.
pub(super) fn evaluate(
    inputs: &Inputs,
    model: &dyn Model,
    evaluated: Evaluated,
    report: &mut Report,
) -> Result<TestResult, JobError> {
    let _guard = tch::no_grad_guard();
    let size = inputs.spec.hyper.test_batch as usize;
    let batches: Vec<&[Item]> = inputs.split.test.chunks(size).collect();
    let classifier = model.classifier();
    let inference = model.inference(evaluated);
    let mut score = Score::new(inputs.split.classnames.len());
    each_prefetched(
        batches.len(),
        |index| {
            let paths: Vec<_> = batches[index].iter().map(|item| item.path.as_path()).collect();
            load_batch_test(inputs.images, &paths, inputs.image_size).map_err(JobError::from)
        },
        |index, pixels, _| {
            inputs.go_on()?;
            let predicted = classifier(&inputs.to_device(&pixels)).by(inference).argmax(-1, false);
            let predicted = Vec::<i64>::try_from(predicted)?;
            for (item, predicted) in batches[index].iter().zip(predicted) {
                score.add(predicted as usize, item.label);
            }
            report.step(false);
            Ok(())
        },
    )?;
    Ok(score.result())
}
