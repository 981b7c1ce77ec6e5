//! CLIP's image tower (method.md, section 1).
//!
//! It comes in two halves: the layers before the first one that a method puts tokens into, which are the same for
//! every tower that looks at the image, and the rest. Shapes: B images, P patches, W width, E embedding.

use tch::{Kind, Tensor};

use super::geometry::VisionGeometry;
use super::layers::{Block, LayerNorm, Loader, Sequences, encode, in_kind};

/// The frozen image tower.
#[derive(Debug)]
pub(crate) struct VisionTower {
    /// [W, 3, patch, patch].
    conv1: Tensor,
    /// [1, 1, W].
    class_embedding: Tensor,
    /// [1+P, W].
    positional_embedding: Tensor,
    ln_pre: LayerNorm,
    pub(crate) blocks: Vec<Block>,
    pub(crate) ln_post: LayerNorm,
    /// Projection to the shared space [W, E].
    pub(crate) proj: Tensor,
}

/// Images after some layers of the tower; a constant.
#[derive(Debug)]
pub(crate) struct ImagePrefix {
    /// [B, 1+P, W].
    pub(crate) activations: Tensor,
    /// What the next layer projects them to, unless only some rows of it are read.
    pub(crate) projected: Option<Tensor>,
}

impl VisionTower {
    pub(super) fn load(loader: &mut Loader, geometry: &VisionGeometry, head_width: i64) -> Self {
        Self {
            conv1: loader.operand("visual.conv1.weight"),
            class_embedding: loader.tensor("visual.class_embedding").view([1, 1, -1]),
            positional_embedding: loader.tensor("visual.positional_embedding"),
            ln_pre: loader.layer_norm("visual.ln_pre"),
            blocks: loader.blocks("visual.transformer.resblocks", geometry.layers, head_width),
            ln_post: loader.layer_norm("visual.ln_post"),
            proj: loader.tensor("visual.proj"),
        }
    }

    /// The activations after the first `layers` layers for `images` [B, 3, S, S].
    pub(crate) fn prefix(&self, images: &Tensor, layers: usize) -> ImagePrefix {
        let _constant = tch::no_grad_guard();
        self.projected(self.activations(images, layers), layers)
    }

    /// [`ImagePrefix::activations`].
    pub(super) fn activations(&self, images: &Tensor, layers: usize) -> Tensor {
        let patch = self.conv1.size()[2];
        let patches = in_kind(self.conv1.kind(), [images, &self.conv1], |[images, conv1]| {
            images.conv2d(conv1, None::<Tensor>, patch, 0, 1, 1)
        });
        let patches = patches.to_kind(Kind::Float).flatten(2, 3).transpose(1, 2);
        let class = self.class_embedding.expand([images.size()[0], 1, -1], false);
        let x = self.ln_pre.forward(&(Tensor::cat(&[class, patches], 1) + &self.positional_embedding));
        let sequences = Sequences::Images { read: 1 };
        self.blocks[..layers].iter().fold(x, |x, block| block.forward(&x, sequences).residual)
    }

    /// The prefix that has these activations after `layers` layers.
    pub(super) fn projected(&self, activations: Tensor, layers: usize) -> ImagePrefix {
        let projected = (layers + 1 < self.blocks.len()).then(|| self.blocks[layers].project(&activations));
        ImagePrefix { activations, projected }
    }

    /// The class features [B, E] of the plain tower, not normalised, from the activations after `layers` layers.
    pub(crate) fn features(&self, prefix: &ImagePrefix, layers: usize) -> Tensor {
        let from = (&prefix.activations, prefix.projected.as_ref());
        let class = encode(&self.blocks[layers..], from, Sequences::Images { read: 1 });
        self.project(&class.squeeze_dim(1))
    }

    /// The class features [B, E] from the class token's last activations [B, W].
    pub(crate) fn project(&self, class: &Tensor) -> Tensor {
        self.ln_post.forward(class).matmul(&self.proj)
    }
}
