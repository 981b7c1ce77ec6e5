//! What a job will need, before one like it was measured.

use crate::experiment::dataset::published_size;
use crate::job::spec::Recipe;
use crate::protocol::{ClassSubset, Stage};

/// Peak memory of training on an RTX 3090 in fp32 with 32 images a step: 4,208 MiB with `EuroSAT`'s 5 base classes, 7,772 with
/// `SUN397`'s 199, 13,212 with `ImageNet`'s 500 (`AlignedNorm`, table of reference costs). A line through the first and the last
/// meets the one between them within 35 MiB: what is there without a class, and what each class adds.
const TRAINING_MIB: f64 = 4117.0;
const PUBLISHED_BATCH: f64 = 32.0;
const MIB_PER_CLASS: f64 = 18.19;
/// Of that, what doesn't depend on the images: the weights in fp32, and what CUDA keeps for itself. The rest are the activations of
/// 32 images. Reckoned, not published.
const FIXED_MIB: f64 = 1100.0;
/// An image's activations without gradients: those of a layer or two. Reckoned, not published.
const MIB_PER_TESTED_IMAGE: f64 = 8.0;
/// Classes of a data set that isn't one of the literature's.
const UNKNOWN_CLASSES: usize = 100;

/// The memory of a job in MiB. 0 for a backbone that nobody has published numbers of: then nothing is known.
pub fn memory_mib(recipe: &Recipe, stage: Stage) -> u32 {
    if recipe.backbone != "ViT-B/16" {
        return 0;
    }
    let images = |name: &str| f64::from(recipe.hyper.count(name).unwrap_or_default());
    // A job that trains tests as well. Without gradients the text tower's activations don't pile up.
    let testing = FIXED_MIB + MIB_PER_TESTED_IMAGE * images("test_batch");
    let training = if stage == Stage::Train && recipe.hyper.get("train_batch").is_some() {
        let classes = published_size(&recipe.dataset).map_or(UNKNOWN_CLASSES, |size| size.classes);
        let trained = match ClassSubset::of(recipe.protocol, stage) {
            ClassSubset::All => classes,
            ClassSubset::Base | ClassSubset::New => classes.div_ceil(2),
        };
        let images = images("train_batch") / PUBLISHED_BATCH;
        FIXED_MIB + (TRAINING_MIB - FIXED_MIB) * images + MIB_PER_CLASS * trained as f64
    } else {
        0.0
    };
    training.max(testing).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};

    fn estimates(dataset: &str, batch: u32, stage: Stage) -> u32 {
        let text = format!(
            "name = \"x\"\nprotocol = \"base_to_new\"\nmethods = [\"alignednorm\"]\nbackbone = \"ViT-B/16\"\n\
             datasets = [\"{dataset}\"]\nseeds = [1]\noverrides = {{ train_batch = {batch} }}"
        );
        let known = Known::built_in();
        let jobs = matrix::expand(&Experiment::from_toml(&text, &known).unwrap(), &known).unwrap();
        let job = jobs.iter().find(|job| job.spec.stage == stage).unwrap();
        memory_mib(&job.spec.recipe, stage)
    }

    #[test]
    fn the_published_peaks_are_met() {
        for (dataset, published) in [("eurosat", 4208_u32), ("sun397", 7772), ("imagenet", 13_212)] {
            let estimate = estimates(dataset, 32, Stage::Train);
            assert!(estimate.abs_diff(published) < 40, "{estimate} for {published}");
        }
    }

    #[test]
    fn a_smaller_batch_takes_less_and_never_less_than_testing() {
        let [four, eight, sixteen] = [4, 8, 16].map(|batch| estimates("sun397", batch, Stage::Train));
        assert!(four < eight && (sixteen - eight).abs_diff(2 * (eight - four)) < 3, "{four}, {eight}, {sixteen}");
        let testing = estimates("eurosat", 1, Stage::Test);
        assert_eq!(testing, 1100 + 8 * 128);
        assert_eq!(estimates("eurosat", 1, Stage::Train), testing);
    }
}
