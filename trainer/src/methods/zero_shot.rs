//! Zero-shot CLIP: the cosine of an image and the class prompts. Nothing is trained.

use tch::Tensor;

use super::{
    Built, Classifier, Evaluated, Inference, Logits, Model, Parameters, Parts, Registration, TrainingLoss, normalised,
};
use crate::clip::Clip;

pub(super) static METHOD: Registration = Registration { key: "zero_shot", parameters: |_, _| Ok(Vec::new()), build };

struct ZeroShot<'a> {
    clip: &'a Clip,
    /// [C, E].
    texts: Tensor,
    parameters: Parameters,
}

fn build<'a>(clip: &'a Clip, parts: Parts<'_>) -> Built<'a> {
    let texts = normalised(&clip.text_features(&parts.classes.prompts()?)?);
    Ok(Box::new(ZeroShot { clip, texts, parameters: parts.parameters }))
}

impl ZeroShot<'_> {
    fn logits(&self, images: &Tensor) -> Logits {
        let images = normalised(&self.clip.image_features(images));
        Logits { native: images.matmul(&self.texts.tr()) * 100.0, rep: None, alpha: 1.0 }
    }
}

impl Model for ZeroShot<'_> {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn training_loss(&self, images: &Tensor, labels: &Tensor) -> TrainingLoss {
        let logits = self.logits(images);
        TrainingLoss::sum(vec![("ce", logits.native.cross_entropy_for_logits(labels))], Vec::new(), &logits)
    }

    fn classifier(&self) -> Classifier<'_> {
        Box::new(|images| self.logits(images))
    }

    fn inference(&self, _: Evaluated) -> Inference {
        Inference::Native
    }
}
