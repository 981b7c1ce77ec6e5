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

impl Model for ZeroShot<'_> {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn training_loss(&self, images: &Tensor, labels: &Tensor) -> TrainingLoss {
        TrainingLoss::cross_entropy(&Logits::native(self.clip, images, &self.texts), labels)
    }

    fn classifier(&self) -> Classifier<'_> {
        Box::new(|images| Logits::native(self.clip, images, &self.texts))
    }

    fn inference(&self, _: Evaluated) -> Inference {
        Inference::Native
    }
}
