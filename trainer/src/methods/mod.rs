//! Methods: what is trained around the frozen CLIP, the loss, and how a test image is classified.
//!
//! Rule of this room: a method is one file and a word in [`REGISTRY`]; adding one touches nothing else in this crate.
//! What several share has a file of its own ([`representation`]). A method draws nothing at random while it trains and reads
//! no file: it gets parameters, images and class names, so that a replay from outside runs the very same code as a job.

mod alignednorm;
mod coop;
mod mmrl;
mod mmrlpp;
mod parameters;
mod representation;
pub mod values;
mod zero_shot;

use std::collections::BTreeMap;

use promptfield_core::input::InvalidInput;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::value::Values;
use promptfield_core::method::{Declaration, Method, Methods};
use tch::Tensor;

pub use parameters::{NamedTensors, ParameterError, Parameters};
use parameters::{Parameter, check_names_and_shapes, draw};

use crate::clip::{Clip, TextError};
use crate::optimiser::{AdamW, Optimiser};
use crate::tokenizer::{TokenError, Tokenizer, Tokens};

/// Every method, in no particular order.
static REGISTRY: &[&Registration] =
    &[&alignednorm::METHOD, &coop::METHOD, &mmrl::METHOD, &mmrlpp::METHOD, &zero_shot::METHOD];

/// How a method is made.
struct Registration {
    /// Its key in [`promptfield_core::method`].
    key: &'static str,
    /// What it trains.
    parameters: fn(&Clip, &Values) -> Result<Vec<Parameter>, MethodError>,
    /// Puts it together. The parameters' names and shapes have been checked.
    build: for<'a> fn(&'a Clip, Parts<'_>) -> Built<'a>,
}

/// A model that is bound to a CLIP, or why it can't be made.
type Built<'a> = Result<Box<dyn Model + 'a>, MethodError>;

/// What a method is made of.
struct Parts<'a> {
    classes: Classes<'a>,
    values: &'a Values,
    parameters: Parameters,
}

/// Why a method can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// The method is known, but this crate has no arithmetic for it.
    #[error("the trainer has no method `{0}`: expected one of {known}", known = REGISTRY.iter().map(|method| method.key).collect::<Vec<_>>().join(", "))]
    Unknown(Method),
    /// A class name or the template can't be tokenised.
    #[error("the prompt of class `{class}`")]
    Prompt {
        /// The class.
        class: String,
        /// Why.
        source: TokenError,
    },
    /// The prompts don't fit the weights.
    #[error("the prompts don't fit the weights")]
    Text(#[from] TextError),
    /// The layers that are to get tokens aren't in the weights.
    #[error("`rep_layers`: [{}] is not valid: expected consecutive layers from 1 to {depth}, the depth of the {tower} tower", .given.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Layers {
        /// The layers.
        given: Vec<u32>,
        /// `vision` or `text`.
        tower: &'static str,
        /// Its layers.
        depth: usize,
    },
    /// A value isn't what its method reads.
    #[error(transparent)]
    Values(#[from] InvalidInput),
    /// The parameters aren't those of the method.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

/// The classes that a model tells apart, and how a prompt is made of their names.
#[derive(Clone, Copy, Debug)]
pub struct Classes<'a> {
    /// The names; `_` stands for a space.
    pub names: &'a [String],
    /// The data set's prompt with `{}` in the name's place.
    pub template: &'a str,
}

impl Classes<'_> {
    /// The class prompts as tokens.
    pub(crate) fn prompts(&self) -> Result<Vec<Tokens>, MethodError> {
        let prompt = |class: &String| {
            let text = self.template.replace("{}", &class.replace('_', " "));
            Tokenizer::shared().encode(&text).map_err(|source| MethodError::Prompt { class: class.clone(), source })
        };
        self.names.iter().map(prompt).collect()
    }
}

/// What is evaluated, as seen from what the model was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluated {
    /// The classes and the data set that it was trained on: base classes, few-shot, the source data set.
    Trained,
    /// Others: new classes, a target data set.
    Unseen,
}

/// Which logits decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inference {
    /// α·native + (1−α)·representation.
    Fused,
    /// The class feature's alone.
    Native,
}

/// 100 · cosine of each image [B] and class [C].
#[derive(Debug)]
pub struct Logits {
    /// Of the class feature [B, C].
    pub native: Tensor,
    /// Of the representation feature [B, C], where a method has one.
    pub rep: Option<Tensor>,
    /// α: the class feature's share when both are fused.
    pub alpha: f64,
    /// The classes' features that the images were compared with, normalised [C, E].
    pub texts: Tensor,
}

impl Logits {
    /// Those of the frozen image tower's class feature alone: images [B, 3, S, S], normalised texts [C, E].
    fn native(clip: &Clip, images: &Tensor, texts: &Tensor) -> Self {
        let images = normalised(&clip.image_features(images));
        Self { native: images.matmul(&texts.tr()) * 100.0, rep: None, alpha: 1.0, texts: texts.detach() }
    }

    /// α·native + (1−α)·representation [B, C]; the native ones of a method without a representation feature.
    pub fn fused(&self) -> Tensor {
        self.by(Inference::Fused)
    }

    /// The logits [B, C] that decide under a rule. A method without a representation feature has one kind only.
    pub fn by(&self, rule: Inference) -> Tensor {
        match (rule, &self.rep) {
            (Inference::Fused, Some(rep)) => &self.native * self.alpha + rep * (1.0 - self.alpha),
            _ => self.native.shallow_clone(),
        }
    }

    fn detach(&self) -> Self {
        let rep = self.rep.as_ref().map(Tensor::detach);
        Self { native: self.native.detach(), rep, alpha: self.alpha, texts: self.texts.detach() }
    }
}

/// A training batch's loss.
#[derive(Debug)]
pub struct TrainingLoss {
    /// What is minimised, a differentiable scalar.
    pub total: Tensor,
    /// The weighted scalars that it is the sum of, by the names of [`TERMS`].
    pub terms: Vec<(&'static str, Tensor)>,
    /// Scalars that are watched but not minimised.
    pub watched: Vec<(&'static str, Tensor)>,
    /// The batch's logits, not differentiable.
    pub logits: Logits,
}

/// The names of loss terms, in the order in which a replay writes them.
pub const TERMS: [&str; 6] = ["ce", "ce_rep", "cos_image", "cos_text", "final_norm", "seq_norm"];

impl TrainingLoss {
    /// The cross-entropy of the native logits and nothing else.
    fn cross_entropy(logits: &Logits, labels: &Tensor) -> Self {
        Self::sum(vec![("ce", logits.native.cross_entropy_for_logits(labels))], Vec::new(), logits)
    }

    /// The loss whose total is the sum of `terms`.
    fn sum(terms: Vec<(&'static str, Tensor)>, watched: Vec<(&'static str, Tensor)>, logits: &Logits) -> Self {
        let total = terms.iter().map(|(_, term)| term).sum();
        let terms = terms.into_iter().map(|(name, term)| (name, term.detach())).collect();
        Self { total, terms, watched, logits: logits.detach() }
    }
}

/// Classifies images [B, 3, S, S].
pub type Classifier<'a> = Box<dyn Fn(&Tensor) -> Logits + 'a>;

/// A method with its parameters, bound to a CLIP and to classes.
pub trait Model {
    /// What is trained; nothing of CLIP itself.
    fn parameters(&self) -> &Parameters;

    /// The loss of a batch: images [B, 3, S, S] normalised, labels [B] 64-bit integers, both on the CLIP's device.
    fn training_loss(&self, images: &Tensor, labels: &Tensor) -> TrainingLoss;

    /// A classifier by the parameters as they are now: what doesn't depend on the image is computed here, once.
    fn classifier(&self) -> Classifier<'_>;

    /// Which logits decide.
    fn inference(&self, evaluated: Evaluated) -> Inference;

    /// What updates the parameters, in its initial state.
    fn optimiser(&self, weight_decay: f64) -> Box<dyn Optimiser> {
        Box::new(AdamW::new(self.parameters(), weight_decay))
    }
}

/// The methods that have an implementation here, by the SHA-256 of their declarations.
pub fn implemented() -> BTreeMap<Method, BasisHash> {
    let here = |known: &&Declaration| registration(known.key()).is_ok();
    let known = Methods::built_in().list().iter().filter(here);
    known.map(|known| (known.key(), BasisHash(known.sha256()))).collect()
}

fn registration(method: Method) -> Result<&'static Registration, MethodError> {
    let found = REGISTRY.iter().find(|registered| registered.key == method.key());
    found.copied().ok_or(MethodError::Unknown(method))
}

/// The parameters that a run with `seed` starts from (method.md, section 2), on the CPU. The draws derive from the seed and the
/// parameters' names alone.
pub fn initial(method: Method, clip: &Clip, values: &Values, seed: u64) -> Result<NamedTensors, MethodError> {
    Ok(draw(&(registration(method)?.parameters)(clip, values)?, seed))
}

/// Binds a method and its parameters to a CLIP and to classes. The parameters come from [`initial`], from a checkpoint or from
/// outside; their names and shapes are checked, their values copied.
pub fn build<'a>(
    method: Method,
    clip: &'a Clip,
    classes: Classes<'_>,
    values: &Values,
    parameters: &NamedTensors,
) -> Built<'a> {
    let registered = registration(method)?;
    check_names_and_shapes(&(registered.parameters)(clip, values)?, parameters)?;
    let parameters = Parameters::new(parameters, clip.device());
    (registered.build)(clip, Parts { classes, values, parameters })
}

/// Rows scaled to length 1. A row whose norm overflows comes to NaN, not to the zeros that a division by infinity gives: those
/// would look like a feature.
fn normalised(x: &Tensor) -> Tensor {
    let norms = row_norms(x);
    // 0 for every number, NaN for infinity.
    let overflow = norms.detach() - norms.detach();
    x / (norms + overflow).unsqueeze(-1)
}

/// The Euclidean norms of the last dimension.
fn row_norms(x: &Tensor) -> Tensor {
    x.norm_scalaropt_dim(2, [-1], false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use promptfield_core::job::backbone::ArchitectureSettings;
    use promptfield_core::names::Precision;
    use promptfield_core::protocol::Protocol;
    use tch::{Device, Kind};

    #[test]
    fn every_method_that_can_be_named_has_its_arithmetic() {
        for known in Methods::built_in().list() {
            assert!(registration(known.key()).is_ok(), "{}", known.key());
        }
        assert_eq!(REGISTRY.len(), Methods::built_in().list().len());
    }

    #[test]
    fn each_method_has_its_rule_of_inference() {
        let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/clip-mini.safetensors");
        let clip =
            Clip::open(weights.as_ref(), &ArchitectureSettings::default(), Device::Cpu, Precision::Fp32).unwrap();
        let names = ["llama".to_owned(), "stop_sign".to_owned()];
        let classes = Classes { names: &names, template: "a photo of a {}." };
        let images = Tensor::ones([1, 3, 64, 64], (Kind::Float, Device::Cpu));
        for (key, trained, unseen) in [
            ("alignednorm", Inference::Fused, Inference::Fused),
            ("mmrlpp", Inference::Fused, Inference::Native),
            ("mmrl", Inference::Fused, Inference::Native),
            ("coop", Inference::Native, Inference::Native),
            ("zero_shot", Inference::Native, Inference::Native),
        ] {
            let method: Method = key.parse().unwrap();
            let known = Methods::built_in().get(method).unwrap();
            let hyper = known.resolve(Protocol::BaseToNew, "dtd", "clip-mini", &Values::default()).unwrap().hyper;
            let parameters = initial(method, &clip, &hyper, 1).unwrap();
            let model = build(method, &clip, classes, &hyper, &parameters).unwrap();
            assert_eq!((model.inference(Evaluated::Trained), model.inference(Evaluated::Unseen)), (trained, unseen));
            assert_eq!(model.parameters().named().is_empty(), !known.learns);
            let logits = model.classifier()(&images);
            assert!(!logits.native.requires_grad());
            assert_eq!(logits.by(Inference::Native), logits.native);
            if let Some(rep) = &logits.rep {
                assert_eq!(logits.fused(), &logits.native * 0.7 + rep * (1.0 - 0.7));
            }
        }
    }
}
