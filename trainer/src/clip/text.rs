//! CLIP's text tower (method.md, section 1).
//!
//! It comes in two halves, like the image tower. The mask is causal and only the end token is read, so texts are cut after
//! the longest one's end: what comes later changes nothing. Shapes: C texts, T tokens of the longest, W width, E embedding.

use tch::{Device, Kind, Tensor};

use super::geometry::TextGeometry;
use super::layers::{Block, LayerNorm, Loader, Mask, Rows};
use crate::tokenizer::{END_TOKEN, Tokens};

/// Why texts can't be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A text is longer than the weights' context.
    #[error("text {index} takes {length} positions, expected at most {context}: the weights have no more positions")]
    Context {
        /// Which text, counted from 0.
        index: usize,
        /// Its positions, with start and end.
        length: usize,
        /// The most tokens of a text.
        context: i64,
    },
    /// A token has no row in the weights.
    #[error("text {index} has the token {token}, expected one below {vocabulary}: the weights have no more rows")]
    Vocabulary {
        /// Which text, counted from 0.
        index: usize,
        /// The token.
        token: u32,
        /// Rows of the token embedding.
        vocabulary: i64,
    },
    /// There are no texts.
    #[error("there are no texts, expected at least one")]
    Empty,
}

/// The frozen text tower.
#[derive(Debug)]
pub(crate) struct TextTower {
    geometry: TextGeometry,
    /// [vocabulary, W], in the kind that the file has: its few rows that are used are converted when they are looked up.
    token_embedding: Tensor,
    /// [context, W].
    positional_embedding: Tensor,
    pub(crate) blocks: Vec<Block>,
    ln_final: LayerNorm,
    /// [W, E].
    projection: Tensor,
}

/// Texts after some layers of the tower; a constant.
#[derive(Debug)]
pub(crate) struct TextPrefix {
    /// [C, T, W].
    pub(crate) activations: Tensor,
    /// Where each text's end token stands.
    pub(super) ends: Vec<i64>,
}

impl TextPrefix {
    /// The end tokens once `more` positions stand after each start token.
    pub(crate) fn end_tokens(&self, more: i64) -> EndTokens {
        let moved: Vec<i64> = self.ends.iter().map(|end| end + more).collect();
        EndTokens::new(&moved, self.activations.size()[1] + more, self.activations.device())
    }
}

/// Where the text features are read.
#[derive(Debug)]
pub(crate) struct EndTokens {
    /// [C], into the C·T positions of all texts.
    indices: Tensor,
    /// [C, 1, 1, T]: true up to each text's end.
    visible: Tensor,
}

impl EndTokens {
    /// The end tokens at `ends` of texts of `length` positions.
    pub(super) fn new(ends: &[i64], length: i64, device: Device) -> Self {
        let starts = Tensor::arange(ends.len() as i64, (Kind::Int64, Device::Cpu)) * length;
        let ends = Tensor::from_slice(ends);
        let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu));
        Self {
            indices: (starts + &ends).to_device(device),
            visible: positions.le_tensor(&ends.view([-1, 1, 1, 1])).to_device(device),
        }
    }

    /// The end tokens' positions, for a last layer.
    pub(crate) const fn rows(&self) -> Rows<'_> {
        Rows::One(&self.indices)
    }

    /// What they may look at: causal attention for these rows.
    pub(crate) const fn mask(&self) -> Mask<'_> {
        Mask::Where(&self.visible)
    }
}

impl TextTower {
    pub(super) fn load(loader: &mut Loader, geometry: &TextGeometry) -> Self {
        Self {
            geometry: *geometry,
            token_embedding: loader.weights.take("token_embedding.weight").to_device(loader.device),
            positional_embedding: loader.tensor("positional_embedding"),
            blocks: loader.blocks("transformer.resblocks", geometry.layers),
            ln_final: loader.layer_norm("ln_final"),
            projection: loader.tensor("text_projection"),
        }
    }

    /// The activations after the first `layers` layers, cut after the longest text's end.
    pub(crate) fn prefix(&self, texts: &[Tokens], layers: usize) -> Result<TextPrefix, TextError> {
        let _constant = tch::no_grad_guard();
        let TextPrefix { activations, ends } = self.embed(texts, 0)?;
        let x = self.positioned(&activations);
        let activations =
            self.blocks[..layers].iter().fold(x, |x, block| block.forward(&x, Rows::All, Mask::Causal).residual);
        Ok(TextPrefix { activations, ends })
    }

    /// The tokens' embeddings without their positions, cut after the longest text's end. The context must have room for
    /// `more` positions besides.
    pub(crate) fn embed(&self, texts: &[Tokens], more: usize) -> Result<TextPrefix, TextError> {
        let _constant = tch::no_grad_guard();
        let ends = self.check(texts, more)?;
        let length = 1 + ends.iter().copied().max().ok_or(TextError::Empty)?;
        let ids: Vec<i64> =
            texts.iter().flat_map(|tokens| &tokens[..length as usize]).map(|&token| i64::from(token)).collect();
        let ids = Tensor::from_slice(&ids).to_device(self.token_embedding.device());
        let embedded = self.token_embedding.index_select(0, &ids).to_kind(Kind::Float);
        let activations = embedded.view([texts.len() as i64, length, self.geometry.width]);
        Ok(TextPrefix { activations, ends })
    }

    /// Embeddings [C, T, W] with their positions added.
    pub(crate) fn positioned(&self, embedded: &Tensor) -> Tensor {
        embedded + self.positional_embedding.narrow(0, 0, embedded.size()[1])
    }

    /// Where the texts end, if the tower can take them with `more` positions besides.
    fn check(&self, texts: &[Tokens], more: usize) -> Result<Vec<i64>, TextError> {
        let (context, vocabulary) = (self.geometry.context, self.geometry.vocabulary);
        let end = |(index, tokens): (usize, &Tokens)| {
            let end = tokens.iter().position(|&token| token == END_TOKEN).unwrap_or(tokens.len() - 1);
            if let Some(&token) = tokens.iter().find(|&&token| i64::from(token) >= vocabulary) {
                return Err(TextError::Vocabulary { index, token, vocabulary });
            }
            let length = end + 1 + more;
            if length as i64 > context {
                return Err(TextError::Context { index, length, context });
            }
            Ok(end as i64)
        };
        texts.iter().enumerate().map(end).collect()
    }

    /// The features [C, E] of the plain tower, not normalised, from the activations after `layers` layers.
    pub(crate) fn features(&self, prefix: &TextPrefix, layers: usize) -> Tensor {
        self.encode(&prefix.activations, &prefix.end_tokens(0), layers)
    }

    /// The features [C, E] of the plain tower, read at `ends`, not normalised, from activations [C, T, W] after `layers`
    /// layers.
    pub(crate) fn encode(&self, activations: &Tensor, ends: &EndTokens, layers: usize) -> Tensor {
        let mut x = activations.shallow_clone();
        let last = self.blocks.len() - 1;
        for (layer, block) in self.blocks.iter().enumerate().skip(layers) {
            let (rows, mask) = if layer == last { (ends.rows(), ends.mask()) } else { (Rows::All, Mask::Causal) };
            x = block.forward(&x, rows, mask).residual;
        }
        self.project(&x)
    }

    /// The features [C, E] from the end tokens' last activations [C, 1, W].
    pub(crate) fn project(&self, ends: &Tensor) -> Tensor {
        self.ln_final.forward(&ends.squeeze_dim(1)).matmul(&self.projection)
    }
}
