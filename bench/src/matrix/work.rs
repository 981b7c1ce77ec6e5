//! What a job has to do: how many steps with how many classes, and how many test images.

use anyhow::{Context as _, Result};
use promptfield_core::experiment::dataset::published_size;
use promptfield_core::job::spec::JobSpec;
use promptfield_core::protocol::{ClassSubset, Stage};

use super::cache::{Images, Passes};
use super::speed::{On, Program, Speeds};

/// What the frozen tower makes of an image, for ViT-B/16: the activations before the first representation layer, of 197 positions,
/// and the feature.
const BYTES_OF_AN_IMAGE: u64 = 4 * (197 * 768 + 512);

/// A job's training, or its evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) passes: Passes,
    each: Size,
}

/// What is done each time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Size {
    Steps { steps: u64, classes: u64, batch: u32 },
    Images(u64),
}

impl Part {
    /// Seconds of each time.
    pub(super) fn seconds(&self, speeds: &Speeds, on: On, program: Program) -> Result<f64> {
        Ok(match self.each {
            Size::Steps { steps, classes, batch } => steps as f64 * speeds.step_s(on, program, classes, batch)?,
            Size::Images(images) => images as f64 * speeds.image_s(on, program),
        })
    }
}

/// The parts of a job, in their order. Data sets have their published sizes, and as many training images of each class as there
/// are shots; of the test images, a half of the classes has its share.
pub(super) fn parts(spec: &JobSpec) -> Result<Vec<Part>> {
    let size = published_size(&spec.dataset).with_context(|| format!("the size of `{}` isn't known", spec.dataset))?;
    let (all, test) = (size.classes as u64, size.test as u64);
    let of = |subset| match subset {
        ClassSubset::All => all,
        ClassSubset::Base => all.div_ceil(2),
        ClassSubset::New => all / 2,
    };
    let subset = spec.classes();
    let images = |batch, draw| Images { dataset: spec.dataset.clone(), classes: subset, batch, draw };
    let mut parts = Vec::new();
    let value = |name: &str| spec.hyper.count(name).unwrap_or_default();
    if spec.stage == Stage::Train && spec.learns() {
        let (batch, classes) = (value("train_batch"), of(subset));
        let count = classes * u64::from(spec.shots);
        // A last short batch is dropped, unless it's the only one.
        let steps = (count / u64::from(batch)).max(1);
        let bytes = BYTES_OF_AN_IMAGE * count.min(steps * u64::from(batch));
        let images = images(batch, Some((spec.shots, spec.seed)));
        parts.push(Part {
            passes: Passes { images, times: value("epochs"), bytes },
            each: Size::Steps { steps, classes, batch },
        });
    }
    let count = test * of(subset) / all;
    parts.push(Part {
        passes: Passes { images: images(value("test_batch"), None), times: 1, bytes: BYTES_OF_AN_IMAGE * count },
        each: Size::Images(count),
    });
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use promptfield_core::experiment::{Experiment, Known, matrix};

    use super::*;

    fn specs(protocol: &str, dataset: &str, shots: u32) -> Vec<JobSpec> {
        let known = Known::built_in();
        let text = format!(
            "name = \"x\"\nprotocol = \"{protocol}\"\nmethods = [\"alignednorm\"]\ndatasets = [\"{dataset}\"]\n\
             shots = [{shots}]\nseeds = [3]\nbackbone = \"ViT-B/16\""
        );
        let experiment = Experiment::from_toml(&text, &known).unwrap();
        let jobs = matrix::expand(&experiment, &known).unwrap();
        jobs.iter().map(|job| job.spec.to_spec()).collect()
    }

    #[test]
    fn base_to_new_trains_on_half_of_the_classes_and_tests_both() {
        let [train, test] = &specs("base_to_new", "oxford_pets", 16)[..] else { panic!("a training and a test") };
        let [training, base] = &parts(train).unwrap()[..] else { panic!("a training tests too") };
        // 19 × 16 images in batches of 4, ten times.
        assert_eq!(training.each, Size::Steps { steps: 76, classes: 19, batch: 4 });
        assert_eq!((training.passes.times, training.passes.bytes), (10, 304 * BYTES_OF_AN_IMAGE));
        assert_eq!(training.passes.images.draw, Some((16, 3)));
        let [new] = &parts(test).unwrap()[..] else { panic!("a test only tests") };
        assert_eq!((base.each, new.each), (Size::Images(3669 * 19 / 37), Size::Images(3669 * 18 / 37)));
        assert_ne!(base.passes.images, new.passes.images);
    }

    #[test]
    fn a_short_batch_is_dropped_unless_it_is_the_only_one() {
        let steps = |dataset, shots| parts(&specs("few_shot", dataset, shots)[0]).unwrap()[0].clone();
        let one = steps("eurosat", 1);
        assert_eq!(one.each, Size::Steps { steps: 1, classes: 10, batch: 32 });
        assert_eq!(one.passes.bytes, 10 * BYTES_OF_AN_IMAGE);
        let more = steps("eurosat", 8);
        assert_eq!(more.each, Size::Steps { steps: 2, classes: 10, batch: 32 });
        assert_eq!((more.passes.bytes, more.passes.times), (64 * BYTES_OF_AN_IMAGE, 100));
    }

    #[test]
    fn all_methods_see_the_same_test_images_in_batches_of_one_size() {
        let cross = specs("cross_dataset", "ucf101", 16);
        let [source, target] = [0, 1].map(|place| parts(&cross[place]).unwrap());
        assert_eq!(source[0].passes.images.dataset, "imagenet");
        let few = parts(&specs("few_shot", "ucf101", 1)[0]).unwrap();
        assert_eq!(target[0].passes, few[1].passes);
    }
}
