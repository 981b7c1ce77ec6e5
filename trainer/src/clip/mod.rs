//! CLIP, frozen: what every method builds on.
//!
//! Rule of this room: nothing here is trainable, and nothing knows of methods. Every size comes from the weights. A
//! tower offers its layers one by one, so that a method can put its tokens between them, and both of its halves: the layers
//! before the first one that a method touches are computed once and shared.

mod attention;
mod geometry;
mod layers;
mod text;
mod texts;
mod vision;
mod weights;

use std::path::Path;

use promptfield_core::names::Precision;
use tch::{Device, Kind, Tensor};

pub use geometry::{Geometry, TextGeometry, VisionGeometry};
pub(crate) use layers::{Block, BlockOutput, Sequences};
pub use text::TextError;
pub(crate) use text::{TextPrefix, TextTower};
pub(crate) use texts::Texts;
pub(crate) use vision::{ImagePrefix, VisionTower};
pub use weights::{Format, Problem, Weights, WeightsError};

use crate::tokenizer::Tokens;

/// A frozen CLIP on a device. Whatever the precision, what goes in and what comes out are 32-bit floats.
#[derive(Debug)]
pub struct Clip {
    geometry: Geometry,
    sha256: String,
    device: Device,
    pub(crate) vision: VisionTower,
    pub(crate) text: TextTower,
}

impl Clip {
    /// Loads a weights file, to be computed on a device in a precision: the one of the patch convolution, of the blocks'
    /// linear layers and of attention. Everything else is computed in 32-bit floats.
    pub fn open(path: &Path, device: Device, precision: Precision) -> Result<Self, WeightsError> {
        let kind = match precision {
            Precision::Fp32 => Kind::Float,
            Precision::AmpBf16 => Kind::BFloat16,
            Precision::AmpFp16 => Kind::Half,
        };
        Ok(Self::new(Weights::open(path)?, device, kind))
    }

    fn new(mut weights: Weights, device: Device, kind: Kind) -> Self {
        let _constant = tch::no_grad_guard();
        let (geometry, sha256) = (*weights.geometry(), weights.sha256().to_owned());
        let mut loader = layers::Loader { weights: &mut weights, device, kind };
        let vision = VisionTower::load(&mut loader, &geometry.vision);
        let text = TextTower::load(&mut loader, &geometry.text);
        Self { geometry, sha256, device, vision, text }
    }

    /// The sizes that the weights tell.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// SHA-256 of the weights file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Where the weights lie, and images must lie.
    pub const fn device(&self) -> Device {
        self.device
    }

    /// Zero-shot features [B, E] of images [B, 3, S, S], not normalised.
    pub fn image_features(&self, images: &Tensor) -> Tensor {
        let _constant = tch::no_grad_guard();
        self.vision.features(&self.vision.prefix(images, 0), 0)
    }

    /// Zero-shot features [C, E] of texts, not normalised.
    pub fn text_features(&self, texts: &[Tokens]) -> Result<Tensor, TextError> {
        let _constant = tch::no_grad_guard();
        Ok(self.text.features(&self.text.prefix(texts, 0)?, 0))
    }
}

#[cfg(test)]
mod tests;
