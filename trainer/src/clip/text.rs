//! CLIP's text tower (method.md, section 1).
//!
//! It comes in two halves, like the image tower. Only the end token is read, and texts are laid out as [`super::texts`] tells.
//! Shapes: C texts, W width, E embedding.

use tch::{Kind, Tensor};

use super::geometry::TextGeometry;
use super::layers::{Block, LayerNorm, Loader, Sequences, encode};
use super::texts::Texts;
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
    /// [1, rows, W].
    pub(crate) activations: Tensor,
    /// What the next layer projects them to, unless only some rows of it are read.
    pub(crate) projected: Option<Tensor>,
    /// How the texts are laid out.
    pub(crate) texts: Texts,
}

impl TextTower {
    pub(super) fn load(loader: &mut Loader, geometry: &TextGeometry, head_width: i64) -> Self {
        Self {
            geometry: *geometry,
            token_embedding: loader.weights.take("token_embedding.weight").to_device(loader.device),
            positional_embedding: loader.tensor("positional_embedding"),
            blocks: loader.blocks("transformer.resblocks", geometry.layers, head_width),
            ln_final: loader.layer_norm("ln_final"),
            projection: loader.tensor("text_projection"),
        }
    }

    /// The activations after the first `layers` layers.
    pub(crate) fn prefix(&self, texts: &[Tokens], layers: usize) -> Result<TextPrefix, TextError> {
        let _constant = tch::no_grad_guard();
        let (embedded, texts) = self.embed(texts, 0)?;
        let sequences = Sequences::Texts(&texts);
        let activations = self.blocks[..layers]
            .iter()
            .fold(self.positioned(&embedded, &texts), |x, block| block.forward(&x, sequences).residual);
        let projected = (layers + 1 < self.blocks.len()).then(|| self.blocks[layers].project(&activations));
        Ok(TextPrefix { activations, projected, texts })
    }

    /// The tokens' embeddings without their positions [1, rows, W], and how they are laid out. The context must have room for
    /// `more` positions besides.
    pub(crate) fn embed(&self, texts: &[Tokens], more: usize) -> Result<(Tensor, Texts), TextError> {
        let _constant = tch::no_grad_guard();
        let (ends, device) = (self.check(texts, more)?, self.token_embedding.device());
        let (layout, tokens) = Texts::new(texts, &ends, self.geometry.width, device);
        let embedded = self.token_embedding.index_select(0, &Tensor::from_slice(&tokens).to_device(device));
        Ok((embedded.to_kind(Kind::Float).unsqueeze(0), layout))
    }

    /// Embeddings [1, rows, W] with their positions added.
    pub(crate) fn positioned(&self, embedded: &Tensor, texts: &Texts) -> Tensor {
        embedded + self.positional_embedding.index_select(0, &texts.positions())
    }

    /// Where the texts end, if the tower can take them with `more` positions besides.
    fn check(&self, texts: &[Tokens], more: usize) -> Result<Vec<i64>, TextError> {
        if texts.is_empty() {
            return Err(TextError::Empty);
        }
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
        let TextPrefix { activations, projected, texts } = prefix;
        self.encode((activations, projected.as_ref()), texts, layers)
    }

    /// The features [C, E] of the plain tower, not normalised, from activations [1, rows, W] after `layers` layers and, where it
    /// is known, what the next layer projects them to.
    pub(crate) fn encode(&self, from: (&Tensor, Option<&Tensor>), texts: &Texts, layers: usize) -> Tensor {
        self.project(&encode(&self.blocks[layers..], from, Sequences::Texts(texts)), texts)
    }

    /// The features [C, E] from the end tokens' last activations [1, C, W].
    pub(crate) fn project(&self, ends: &Tensor, texts: &Texts) -> Tensor {
        self.ln_final.forward(&texts.as_given(ends)).matmul(&self.projection)
    }
}
