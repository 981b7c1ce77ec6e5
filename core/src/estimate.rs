//! What a job will need, before anything was measured.

use crate::dataset::published_size;
use crate::names::{ClassSubset, Stage};
use crate::spec::Recipe;

/// Peak memory of training on an RTX 3090 in fp32 with 32 images a step: 4,208 MiB with `EuroSAT`'s 5 base classes, 7,772 with
/// `SUN397`'s 199, 13,212 with `ImageNet`'s 500 (`AlignedNorm`, table of reference costs). A line through the first and the last
/// meets the one between them within 35 MiB.
const TRAINING_MIB: f64 = 4117.0;
const MIB_PER_CLASS: f64 = 18.19;
/// Classes of a data set that isn't one of the literature's.
const UNKNOWN_CLASSES: usize = 100;

/// The memory of a job in MiB. 0 for a backbone that nobody has published numbers of: then nothing is known.
pub fn memory_mib(recipe: &Recipe, stage: Stage) -> u32 {
    if recipe.backbone != "ViT-B/16" {
        return 0;
    }
    let classes = published_size(&recipe.dataset).map_or(UNKNOWN_CLASSES, |size| size.classes);
    let trained = match ClassSubset::of(recipe.protocol, stage) {
        ClassSubset::All => classes,
        ClassSubset::Base | ClassSubset::New => classes.div_ceil(2),
    };
    // Without gradients the text tower's activations don't pile up.
    let classes = if stage == Stage::Train && recipe.method.learns() { trained } else { 0 };
    (TRAINING_MIB + MIB_PER_CLASS * classes as f64).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Catalogue;
    use crate::experiment::{Experiment, Known};
    use crate::matrix;

    #[test]
    fn the_published_peaks_are_met() {
        let text = "name = \"x\"\nprotocol = \"base_to_new\"\nmethods = [\"alignednorm\"]\nbackbone = \"ViT-B/16\"\n\
             datasets = [\"eurosat\", \"sun397\", \"imagenet\"]\nseeds = [1]";
        let known = Known { datasets: Catalogue::built_in(), backbones: Vec::new() };
        let jobs = matrix::expand(&Experiment::from_toml(text, &known).unwrap(), &known.datasets).unwrap();
        let training = jobs.iter().filter(|job| job.spec.stage == Stage::Train);
        let estimates: Vec<u32> = training.map(|job| memory_mib(&job.spec.recipe, Stage::Train)).collect();
        for (estimate, published) in estimates.iter().zip([4208_u32, 7772, 13_212]) {
            assert!(estimate.abs_diff(published) < 40, "{estimate} for {published}");
        }
    }
}
