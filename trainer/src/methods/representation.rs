//! What the methods with representation tokens in the upper layers of both towers share (method.md, sections 2 to 4). Where a
//! layer's tokens come from is each method's [`Aligner`].
//!
//! Shapes: B images, C classes, K representation tokens, W a tower's width, E embedding, n representation layers. A
//! sequence holds first the token that was there first (class or start token), then the K tokens, then the rest; so do the
//! rows of the texts, which share their first positions.

use std::ops::Range;
use std::rc::Rc;

use promptfield_core::method::value::Values;
use serde::Deserialize;
use tch::Tensor;

use super::parameters::{Initial, Parameter};
use super::{
    Built, Classifier, Evaluated, Inference, Logits, MethodError, Model, Parameters, Parts, TrainingLoss, normalised,
    row_norms, values,
};
use crate::clip::{Block, BlockOutput, Clip, Geometry, ImagePrefix, Prompts, Sequences, Texts};

/// The values of such a method's declaration that are read here; 0 of those that it hasn't.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenValues {
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) reg_weight: f64,
    pub(super) final_norm: f64,
    pub(super) seq_norm: f64,
    pub(super) rep_dim: u32,
    pub(super) n_rep_tokens: u32,
    pub(super) proj_lora_dim: u32,
    pub(super) res_lora_dim: u32,
    pub(super) rep_layers: Option<Vec<u32>>,
}

/// What the methods differ in.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    /// Where the tokens come from.
    pub(super) aligner: &'static dyn Aligner,
    /// Whether the loss has the two norm terms.
    pub(super) norm_terms: bool,
    /// Which logits decide on classes and data sets that weren't trained on.
    pub(super) unseen: Inference,
}

/// How a layer's tokens come from the tokens of the representation space, and the representation feature from the tokens.
pub(super) trait Aligner: Sync {
    /// What is trained of one tower: `width` is W, `layers` the number of its representation layers.
    fn tower(&self, tower: &str, width: i64, layers: usize, hyper: &TokenValues) -> Vec<Parameter>;

    /// What is trained of the representation feature's projection, which starts at the frozen `proj` [W, E].
    fn projection(&self, proj: &Tensor, hyper: &TokenValues) -> Vec<Parameter>;

    /// A tower's tokens [K, W], for each of so many representation layers, from those of the space [K, `d_r`].
    fn tokens(&self, parameters: &Parameters, tower: &str, layers: usize, space: &Tensor) -> Vec<Tensor>;

    /// The representation feature [B, E] from the mean of the normalised tokens [B, W]; `proj` [W, E] is frozen.
    fn project(&self, parameters: &Parameters, mean: &Tensor, proj: &Tensor) -> Tensor;

    /// β: the share of a layer's own tokens when they meet what the layer before left in their place.
    fn beta(&self, hyper: &TokenValues) -> f64;
}

/// The layers of each tower that get tokens, counted from 0.
struct RepresentationLayers {
    vision: Range<usize>,
    text: Range<usize>,
}

impl RepresentationLayers {
    fn new(geometry: &Geometry, hyper: &TokenValues) -> Result<Self, MethodError> {
        let layers = |tower, depth| representation_layers(tower, depth, hyper.rep_layers.as_deref());
        Ok(Self { vision: layers("vision", geometry.vision.layers)?, text: layers("text", geometry.text.layers)? })
    }
}

/// The given layers (numbered from 1), or else the last ⌈7·depth/12⌉, which are the paper's 6 to 12 of 12.
fn representation_layers(
    tower: &'static str,
    depth: usize,
    given: Option<&[u32]>,
) -> Result<Range<usize>, MethodError> {
    let Some(given) = given else { return Ok(depth - (7 * depth).div_ceil(12)..depth) };
    let consecutive = given.windows(2).all(|pair| pair[1] == pair[0] + 1);
    match given {
        [first, .., last] | [first @ last] if consecutive && *first > 0 && *last as usize <= depth => {
            Ok(*first as usize - 1..*last as usize)
        }
        _ => Err(MethodError::Layers { given: given.to_vec(), tower, depth }),
    }
}

/// The tokens of the representation space, and what the aligner adds.
pub(super) fn parameters(clip: &Clip, values: &Values, aligner: &dyn Aligner) -> Result<Vec<Parameter>, MethodError> {
    const TOKEN_DEVIATION: f64 = 0.02;
    let hyper = &values::read::<TokenValues>(values)?;
    let geometry = clip.geometry();
    let layers = RepresentationLayers::new(geometry, hyper)?;
    let shape = [i64::from(hyper.n_rep_tokens), i64::from(hyper.rep_dim)];
    let mut parameters = vec![Parameter::new(SPACE, &shape, Initial::Normal { deviation: TOKEN_DEVIATION })];
    parameters.extend(aligner.tower("vision", geometry.vision.width, layers.vision.len(), hyper));
    parameters.extend(aligner.tower("text", geometry.text.width, layers.text.len(), hyper));
    parameters.extend(aligner.projection(&clip.vision.proj, hyper));
    Ok(parameters)
}

/// The parameter that holds the tokens of the representation space.
const SPACE: &str = "rep_tokens";

struct Representation<'a> {
    clip: &'a Clip,
    hyper: TokenValues,
    variant: Variant,
    layers: RepresentationLayers,
    parameters: Parameters,
    /// The prompts before the first representation layer, and what the frozen tower makes of them.
    prompts: Rc<Prompts>,
    /// How the prompts are laid out once the tokens are in.
    prompted: Texts,
    /// The frozen tower's features of the prompts, normalised [C, E].
    frozen_texts: Tensor,
}

pub(super) fn build<'a>(clip: &'a Clip, parts: Parts<'_>, variant: Variant) -> Built<'a> {
    let _constant = tch::no_grad_guard();
    let Parts { classes, values, parameters } = parts;
    let hyper: TokenValues = values::read(values)?;
    let layers = RepresentationLayers::new(clip.geometry(), &hyper)?;
    let prompts = clip.prompts(&classes.prompts()?, layers.text.start)?;
    let prompted = prompts.prefix.texts.with_more(i64::from(hyper.n_rep_tokens));
    let frozen_texts = normalised(&prompts.features);
    Ok(Box::new(Representation { clip, hyper, variant, layers, parameters, prompts, prompted, frozen_texts }))
}

/// What the prompted image tower makes of a batch.
struct ImageFeatures {
    /// `f_c` [B, E].
    class: Tensor,
    /// `f_r` [B, E].
    rep: Tensor,
    /// What `ln_post` makes of the class token [B, W].
    class_normed: Tensor,
    /// The mean of what `ln_post` makes of the representation tokens [B, W].
    rep_normed: Tensor,
}

impl Representation<'_> {
    /// A tower's tokens, [K, W] for each representation layer.
    fn tokens(&self, tower: &str, layers: &Range<usize>) -> Vec<Tensor> {
        self.variant.aligner.tokens(&self.parameters, tower, layers.len(), self.parameters.get(SPACE))
    }

    /// β.
    fn beta(&self) -> f64 {
        self.variant.aligner.beta(&self.hyper)
    }

    /// t [C, E].
    fn text_features(&self) -> Tensor {
        let (tower, prefix) = (&self.clip.text, &self.prompts.prefix);
        let ends = prompted(
            &tower.blocks,
            &self.layers.text,
            (prefix.activations.shallow_clone(), prefix.projected.as_ref().map(Tensor::shallow_clone)),
            &self.tokens("text", &self.layers.text),
            self.beta(),
            Sequences::Texts(&self.prompted),
            |_, _| {},
        );
        tower.project(&ends, &self.prompted)
    }

    /// The image features, from the activations before the first representation layer; `norms` sees what each representation
    /// layer makes of the class token and the representation tokens.
    fn image_features(&self, prefix: ImagePrefix, tokens: &[Tensor], norms: &mut Option<LayerNorms>) -> ImageFeatures {
        let tower = &self.clip.vision;
        let (count, proj) = (tokens[0].size()[0], &tower.proj);
        let x = prompted(
            &tower.blocks,
            &self.layers.vision,
            (prefix.activations, prefix.projected),
            tokens,
            self.beta(),
            Sequences::Images { read: 1 + count },
            |attention, front| {
                if let Some(norms) = norms {
                    norms.add(&attention.narrow(1, 0, 1 + count), front);
                }
            },
        );
        let normed = tower.ln_post.forward(&x);
        let (class_normed, rep_normed) = (normed.select(1, 0), normed.narrow(1, 1, count).mean_dim(1, false, None));
        let rep = self.variant.aligner.project(&self.parameters, &rep_normed, proj);
        ImageFeatures { class: class_normed.matmul(proj), rep, class_normed, rep_normed }
    }

    /// The logits for normalised features.
    fn logits(&self, class: &Tensor, rep: &Tensor, texts: &Tensor) -> Logits {
        let scaled = texts.tr() * 100.0;
        let (native, rep) = (class.matmul(&scaled), Some(rep.matmul(&scaled)));
        Logits { native, rep, alpha: self.hyper.alpha, texts: texts.detach() }
    }
}

/// What is read of a tower's last layer, from the activations [N, S, W] before its first representation layer and what that
/// layer projects them to, if it's known, with a layer's tokens [K, W] put in before each. `see` is handed, of each
/// representation layer, what its attention adds, and of its output the first 1+K positions.
fn prompted(
    blocks: &[Block],
    layers: &Range<usize>,
    (activations, mut projected): (Tensor, Option<Tensor>),
    tokens: &[Tensor],
    beta: f64,
    sequences: Sequences,
    mut see: impl FnMut(&Tensor, &Tensor),
) -> Tensor {
    // Each layer's output is cut once, so that the gradients of its parts are put together by one copy: `front` holds the
    // first token and the K tokens' slots.
    let cut = |x: &Tensor, front: i64| {
        let parts = <[Tensor; 2]>::try_from(x.split_with_sizes([front, x.size()[1] - front], 1));
        parts.expect("two sizes are given")
    };
    let count = tokens[0].size()[0];
    let [mut front, mut rest] = cut(&activations, 1);
    // Of a large batch this is much memory, which is needed elsewhere soon.
    drop(activations);
    for (layer, block) in blocks.iter().enumerate().skip(layers.start) {
        let token = layers.contains(&layer).then(|| &tokens[layer - layers.start]);
        let (is_first, is_last) = (layer == layers.start, layer + 1 == blocks.len());
        if let Some(token) = token {
            front = if is_first { insert(&front, token) } else { mix(&front, token, beta) };
        }
        let x = Tensor::cat(&[&front, &rest], 1);
        let BlockOutput { attention, residual } = match (token, projected.take()) {
            // Neither what is constant is projected again nor a gradient taken through its projection.
            (Some(token), Some(projected)) if is_first => {
                let token = block.project(&token.unsqueeze(0)).squeeze_dim(0);
                block.forward_projected(&x, &insert(&projected, &token), sequences)
            }
            _ if is_last => block.forward_read(&x, sequences),
            _ => block.forward(&x, sequences),
        };
        if is_last {
            front = residual;
        } else {
            [front, rest] = cut(&residual, 1 + count);
        }
        if token.is_some() {
            see(&attention, &front);
        }
    }
    front
}

/// [first, token, rest].
pub(super) fn insert(x: &Tensor, token: &Tensor) -> Tensor {
    let (sequences, length) = (x.size()[0], x.size()[1]);
    let token = token.unsqueeze(0).expand([sequences, -1, -1], false);
    Tensor::cat(&[x.narrow(1, 0, 1), token, x.narrow(1, 1, length - 1)], 1)
}

/// [first, β·token + (1−β)·what stands there]; with β = 1 the tokens are replaced.
fn mix(front: &Tensor, token: &Tensor, beta: f64) -> Tensor {
    let count = token.size()[0];
    let mixed = if beta < 1.0 {
        front.narrow(1, 1, count) * (1.0 - beta) + token * beta
    } else {
        token.unsqueeze(0).expand([front.size()[0], -1, -1], false)
    };
    Tensor::cat(&[front.narrow(1, 0, 1), mixed], 1)
}

/// Norms of the class token and the K representation tokens, [B, 1+K] for each representation layer.
#[derive(Default)]
struct LayerNorms {
    attention: Vec<Tensor>,
    residual: Vec<Tensor>,
}

impl LayerNorms {
    fn add(&mut self, attention: &Tensor, residual: &Tensor) {
        // Copied, because what a norm remembers for its gradient would otherwise keep the whole sequence in memory.
        self.residual.push(row_norms(&residual.contiguous()));
        self.attention.push(row_norms(&attention.detach()));
    }
}

/// The mean over layers and tokens of `| mean_b ‖x_rep‖ − sg(mean_b ‖x_CLS‖) |`.
fn token_norm_gap(norms: &[Tensor]) -> Tensor {
    let norms = Tensor::stack(norms, 0).mean_dim(1, false, None);
    let count = norms.size()[1] - 1;
    (norms.narrow(1, 1, count) - norms.narrow(1, 0, 1).detach()).abs().mean(None)
}

/// `mean_b | ‖rep‖ − sg(‖class‖) |`.
fn norm_gap(rep: &Tensor, class: &Tensor) -> Tensor {
    (row_norms(rep) - row_norms(&class.detach())).abs().mean(None)
}

/// 1 − the mean cosine of normalised rows.
fn cosine_gap(a: &Tensor, b: &Tensor) -> Tensor {
    1.0 - (a * b).sum_dim_intlist(-1, false, None).mean(None)
}

impl Model for Representation<'_> {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn training_loss(&self, images: &Tensor, labels: &Tensor) -> TrainingLoss {
        const WATCHED_WEIGHT: f64 = 0.1;
        let (hyper, first) = (&self.hyper, self.layers.vision.start);
        let seen = self.clip.look_at(images);
        let prefix = seen.prefix(first);
        let frozen = normalised(&seen.features_from(&prefix, first));
        let mut norms = self.variant.norm_terms.then(LayerNorms::default);
        let features = self.image_features(prefix, &self.tokens("vision", &self.layers.vision), &mut norms);
        let (class, rep, texts) =
            (normalised(&features.class), normalised(&features.rep), normalised(&self.text_features()));
        let logits = self.logits(&class, &rep, &texts);
        let ce = |logits: &Tensor| logits.cross_entropy_for_logits(labels);
        let mut terms = vec![
            ("ce", ce(&logits.native) * hyper.alpha),
            ("ce_rep", logits.rep.as_ref().map(ce).expect("both kinds of logits") * (1.0 - hyper.alpha)),
            ("cos_image", cosine_gap(&class, &frozen) * hyper.reg_weight),
            ("cos_text", cosine_gap(&texts, &self.frozen_texts) * hyper.reg_weight),
        ];
        let mut watched = Vec::new();
        if let Some(norms) = norms {
            terms.push(("final_norm", norm_gap(&features.rep, &features.class) * hyper.final_norm));
            terms.push(("seq_norm", token_norm_gap(&norms.residual) * hyper.seq_norm));
            let _not_minimised = tch::no_grad_guard();
            let ln_post = norm_gap(&features.rep_normed, &features.class_normed);
            watched.push(("ln_post_norm", ln_post * WATCHED_WEIGHT));
            watched.push(("attention_norm", token_norm_gap(&norms.attention) * WATCHED_WEIGHT));
        }
        TrainingLoss::sum(terms, watched, &logits)
    }

    fn classifier(&self) -> Classifier<'_> {
        let _constant = tch::no_grad_guard();
        let texts = normalised(&self.text_features());
        let tokens = self.tokens("vision", &self.layers.vision);
        Box::new(move |images| {
            let _constant = tch::no_grad_guard();
            let prefix = self.clip.look_at(images).prefix(self.layers.vision.start);
            let features = self.image_features(prefix, &tokens, &mut None);
            self.logits(&normalised(&features.class), &normalised(&features.rep), &texts)
        })
    }

    fn inference(&self, evaluated: Evaluated) -> Inference {
        match evaluated {
            Evaluated::Trained => Inference::Fused,
            Evaluated::Unseen => self.variant.unseen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_tokens_norm_is_the_target_and_gets_no_gradient() {
        // One layer, two images; the class token and two representation tokens.
        let norms = Tensor::from_slice(&[4.0_f32, 1.0, 7.0, 6.0, 2.0, 9.0]).view([1, 2, 3]).set_requires_grad(true);
        let gap = token_norm_gap(&[norms.get(0)]);
        // Means 5, 1.5 and 8: |1.5 − 5| and |8 − 5|.
        assert!((gap.double_value(&[]) - 3.25).abs() < 1e-6);
        gap.backward();
        let gradient = Vec::<f32>::try_from(norms.grad().reshape(-1)).unwrap();
        assert_eq!(gradient, [0.0, -0.25, 0.25, 0.0, -0.25, 0.25]);

        let rep = Tensor::from_slice(&[3.0_f32, 4.0, 0.0, 1.0]).view([2, 2]).set_requires_grad(true);
        let class = Tensor::from_slice(&[0.0_f32, 4.0, 3.0, 0.0]).view([2, 2]).set_requires_grad(true);
        let gap = norm_gap(&rep, &class);
        // Norms 5 and 1 against 4 and 3.
        assert!((gap.double_value(&[]) - 1.5).abs() < 1e-6);
        gap.backward();
        let gradient = Vec::<f32>::try_from(rep.grad().reshape(-1)).unwrap();
        assert!(gradient.iter().zip([0.3, 0.4, 0.0, -0.5]).all(|(a, b)| (a - b).abs() < 1e-6), "{gradient:?}");
        assert!(!class.grad().defined());
    }

    #[test]
    fn the_papers_layers_and_their_share_of_other_depths() {
        let layers = |depth, given: Option<&[u32]>| representation_layers("text", depth, given);
        assert_eq!(layers(12, None).unwrap(), 5..12);
        assert_eq!(layers(24, None).unwrap(), 10..24);
        assert_eq!(layers(4, None).unwrap(), 1..4);
        assert_eq!(layers(3, None).unwrap(), 1..3);
        assert_eq!(layers(1, None).unwrap(), 0..1);
        assert_eq!(layers(12, Some(&[3, 4])).unwrap(), 2..4);
        assert_eq!(layers(12, Some(&[12])).unwrap(), 11..12);
        let error = layers(3, Some(&[3, 4])).unwrap_err().to_string();
        assert_eq!(
            error,
            "`rep_layers`: [3, 4] is not valid: expected consecutive layers from 1 to 3, the depth of the text tower"
        );
        assert!(
            layers(3, Some(&[])).is_err() && layers(3, Some(&[1, 3])).is_err() && layers(3, Some(&[0, 1])).is_err()
        );
    }
}
