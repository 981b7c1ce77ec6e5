//! `CoOp` (Zhou et al., IJCV 2022): context vectors in the place of the prompt's words, the same for all classes, with the class
//! name at the end. Only they are trained, by the cross-entropy of the class feature's logits.
//!
//! Shapes: B images, C classes, W the text tower's width.

use serde::Deserialize;
use tch::Tensor;

use super::parameters::{Initial, Parameter};
use super::representation::insert;
use super::{
    Built, Classes, Classifier, Evaluated, Inference, Logits, Model, Parameters, Parts, Registration, TrainingLoss,
    normalised, values,
};
use crate::clip::{Clip, Texts};
use crate::optimiser::{Optimiser, Sgd};

pub(super) static METHOD: Registration = Registration {
    key: "coop",
    parameters: |clip, values| {
        let own: Own = values::read(values)?;
        let shape = [i64::from(own.n_ctx), clip.geometry().text.width];
        Ok(vec![Parameter::new(CONTEXT, &shape, Initial::Normal { deviation: 0.02 })])
    },
    build,
};

/// The values of `configs/methods/coop.toml` that are read here.
#[derive(Deserialize)]
struct Own {
    n_ctx: u32,
    momentum: f64,
}

/// The parameter that holds the context vectors [`n_ctx`, W].
const CONTEXT: &str = "ctx";
/// What is tokenised of a class; the data set's template is for prompts without context vectors.
const TEMPLATE: &str = "{}.";

struct ContextVectors<'a> {
    clip: &'a Clip,
    momentum: f64,
    parameters: Parameters,
    /// Start token, class name and end token [1, rows, W], without positions.
    names: Tensor,
    /// How they are laid out once the context is in.
    prompts: Texts,
}

fn build<'a>(clip: &'a Clip, parts: Parts<'_>) -> Built<'a> {
    let Parts { classes, values, parameters } = parts;
    let Own { momentum, .. } = values::read(values)?;
    let context = parameters.get(CONTEXT).size()[0];
    let prompts = Classes { template: TEMPLATE, ..classes }.prompts()?;
    let (names, texts) = clip.text.embed(&prompts, context as usize)?;
    Ok(Box::new(ContextVectors { clip, momentum, parameters, names, prompts: texts.with_more(context) }))
}

impl ContextVectors<'_> {
    /// The class prompts' features, normalised [C, E].
    fn texts(&self) -> Tensor {
        let embedded = insert(&self.names, self.parameters.get(CONTEXT));
        let positioned = self.clip.text.positioned(&embedded, &self.prompts);
        normalised(&self.clip.text.encode((&positioned, None), &self.prompts, 0))
    }
}

impl Model for ContextVectors<'_> {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn training_loss(&self, images: &Tensor, labels: &Tensor) -> TrainingLoss {
        TrainingLoss::cross_entropy(&Logits::native(self.clip, images, &self.texts()), labels)
    }

    fn classifier(&self) -> Classifier<'_> {
        let _constant = tch::no_grad_guard();
        let texts = self.texts();
        Box::new(move |images| Logits::native(self.clip, images, &texts))
    }

    fn inference(&self, _: Evaluated) -> Inference {
        Inference::Native
    }

    fn optimiser(&self, weight_decay: f64) -> Box<dyn Optimiser> {
        Box::new(Sgd::new(&self.parameters, self.momentum, weight_decay))
    }
}
