//! CLIP, frozen: what every method builds on.
//!
//! Rule of this room: nothing here is trainable, and nothing knows of methods. Every size comes from the weights, and what
//! their shapes don't tell from [`Backbone`]. A tower offers its layers one by one, so that a method can put its tokens between
//! them, and both of its halves: the layers before the first one that a method touches are computed once and shared.

mod attention;
mod backbone;
mod beside;
mod frozen;
mod geometry;
mod hashes;
mod layers;
mod prompts;
mod text;
mod texts;
mod tf32;
mod vision;
mod weights;

use std::path::Path;
use std::rc::Rc;
use std::sync::LazyLock;

use frozen::Frozen;
use promptfield_core::job::backbone::{Architecture, ArchitectureSettings};
use promptfield_core::names::Precision;
use prompts::KeptPrompts;
use sha2::Sha256;
use tch::{Device, Kind, Tensor};

pub use backbone::Backbone;
pub use frozen::FrozenCache;
pub use geometry::{Geometry, TextGeometry, VisionGeometry};
pub(crate) use layers::{Block, BlockOutput, Sequences};
pub(crate) use prompts::Prompts;
pub use text::TextError;
pub(crate) use text::TextTower;
pub(crate) use texts::Texts;
pub(crate) use vision::{ImagePrefix, VisionTower};
pub use weights::{Format, Problem, Weights, WeightsError};

use crate::tokenizer::Tokens;

/// A frozen CLIP on a device. Whatever the precision, what goes in and what comes out are 32-bit floats.
#[derive(Debug)]
pub struct Clip {
    geometry: Geometry,
    backbone: Backbone,
    device: Device,
    precision: Precision,
    /// Where it is looked up what the image tower makes of images.
    frozen: Option<Frozen>,
    prompts: KeptPrompts,
    pub(crate) vision: VisionTower,
    pub(crate) text: TextTower,
}

impl Clip {
    /// Loads a weights file, to be computed on a device in a precision: the one of the patch convolution, of the blocks'
    /// linear layers and of attention. Everything else is computed in 32-bit floats. What the tensors don't tell is found out as
    /// [`Backbone::identify`] does it.
    ///
    /// Whether a GPU may use TF32 is one switch for the process, which the last CLIP that was opened has set.
    pub fn open(
        path: &Path,
        settings: &ArchitectureSettings,
        device: Device,
        precision: Precision,
    ) -> Result<Self, WeightsError> {
        let mut weights = Weights::open(path, settings)?;
        let _constant = tch::no_grad_guard();
        if device.is_cuda() {
            tf32::allow(precision == Precision::Tf32);
        }
        let (geometry, backbone) = (*weights.geometry(), weights.backbone().clone());
        let Architecture { activation, vision_head_width, text_head_width, .. } = backbone.architecture;
        let mut loader = layers::Loader { weights: &mut weights, device, kind: kind_of(precision), activation };
        let vision = VisionTower::load(&mut loader, &geometry.vision, vision_head_width.into());
        let text = TextTower::load(&mut loader, &geometry.text, text_head_width.into());
        Ok(Self { geometry, backbone, device, precision, frozen: None, prompts: KeptPrompts::default(), vision, text })
    }

    /// The same CLIP, with what it makes of images kept in a cache.
    #[must_use]
    pub fn with_cache(self, cache: Option<FrozenCache>) -> Self {
        let frozen = cache.map(|cache| Frozen::new(cache, &self.backbone.sha256(), self.device, self.precision));
        Self { frozen, ..self }
    }

    /// The sizes that the weights tell.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Which backbone it is.
    pub const fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Where the weights lie, and images must lie.
    pub const fn device(&self) -> Device {
        self.device
    }

    /// Zero-shot features [B, E] of images [B, 3, S, S], not normalised.
    pub fn image_features(&self, images: &Tensor) -> Tensor {
        let _constant = tch::no_grad_guard();
        self.look_at(images).features(|| self.vision.features(&self.vision.prefix(images, 0), 0))
    }

    /// Images [B, 3, S, S], for what doesn't depend on anything trained to be computed or looked up.
    pub(crate) fn look_at<'a>(&'a self, images: &'a Tensor) -> Images<'a> {
        Images { clip: self, pixels: images, digest: self.frozen.as_ref().map(|frozen| frozen.digest(images)) }
    }

    /// Zero-shot features [C, E] of texts, not normalised.
    pub fn text_features(&self, texts: &[Tokens]) -> Result<Tensor, TextError> {
        Ok(self.prompts(texts, 0)?.features.shallow_clone())
    }

    /// What the frozen text tower makes of class prompts, up to the layer after the first `layers` and in all. The prompts of the
    /// last jobs are kept.
    pub(crate) fn prompts(&self, texts: &[Tokens], layers: usize) -> Result<Rc<Prompts>, TextError> {
        self.prompts.get(&self.text, texts, layers)
    }
}

/// What products are computed in.
const fn kind_of(precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 | Precision::Tf32 => Kind::Float,
        Precision::AmpBf16 => Kind::BFloat16,
        Precision::AmpFp16 => Kind::Half,
    }
}

/// What is to be said of a precision on a CPU.
pub(crate) fn precision_note(on_cpu: bool, precision: Precision) -> &'static str {
    match kind_of(precision) {
        Kind::Float if on_cpu && precision == Precision::Tf32 => " (as fp32: this is a CPU)",
        Kind::Float => "",
        kind if !on_cpu || multiplies_natively(kind) => " (native)",
        _ => " (rounded, multiplied in single precision)",
    }
}

/// Whether this CPU is left to multiply in a kind of half precision. By itself that is bfloat16 where there is a matrix unit for it
/// (AMX): plain vector instructions were measured to take twice as long as single precision. `PROMPTFIELD_CPU_BF16` of the
/// environment, `native` or `emulated`, decides otherwise.
pub(crate) fn multiplies_natively(kind: Kind) -> bool {
    static NATIVE: LazyLock<bool> = LazyLock::new(|| match std::env::var("PROMPTFIELD_CPU_BF16").as_deref() {
        Ok("native") => true,
        Ok("emulated") => false,
        _ => {
            let processors = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
            processors.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "amx_bf16"))
        }
    });
    kind == Kind::BFloat16 && *NATIVE
}

/// Images, and what the frozen tower makes of them.
pub(crate) struct Images<'a> {
    clip: &'a Clip,
    pixels: &'a Tensor,
    /// Of the pixels, where there's a cache.
    digest: Option<Sha256>,
}

impl Images<'_> {
    /// The activations after the first `layers` layers.
    pub(crate) fn prefix(&self, layers: usize) -> ImagePrefix {
        let _constant = tch::no_grad_guard();
        let vision = &self.clip.vision;
        let activations = self.get(&format!("after {layers} layers"), || vision.activations(self.pixels, layers));
        vision.projected(activations, layers)
    }

    /// The zero-shot features [B, E], not normalised, which are what `compute` gives.
    fn features(&self, compute: impl FnOnce() -> Tensor) -> Tensor {
        self.get("features", compute)
    }

    /// The zero-shot features [B, E], not normalised, from the activations after `layers` layers.
    pub(crate) fn features_from(&self, prefix: &ImagePrefix, layers: usize) -> Tensor {
        let _constant = tch::no_grad_guard();
        self.features(|| self.clip.vision.features(prefix, layers))
    }

    fn get(&self, name: &str, compute: impl FnOnce() -> Tensor) -> Tensor {
        match self.clip.frozen.as_ref().zip(self.digest.as_ref()) {
            Some((frozen, digest)) => frozen.get(digest, name, self.clip.device, compute),
            None => compute(),
        }
    }
}

#[cfg(test)]
mod tests;
