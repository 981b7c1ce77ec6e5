//! What a backbone's features rest on: its weights, and what their shapes don't tell.
//!
//! Two CLIPs with the same tensors differ by the activation between their linear layers, by the width of an attention head, and
//! by how pixels are normalised. [`Architecture`] says which was taken; [`Architecture::identity`] is what results, checkpoints,
//! caches and workers are compared by.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::input::{InvalidInput, Refusals};
use crate::job::spec::hex;
use crate::names::named;

named! {
    /// The function between the two linear layers of a block.
    pub enum Activation("activation") {
        /// x·σ(1.702·x): `OpenAI`'s CLIPs.
        QuickGelu = "quick_gelu",
        /// x·Φ(x): `OpenCLIP`'s own, and Hugging Face's `gelu`.
        Gelu = "gelu",
    }
}

/// What the tensors of a CLIP don't tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The function between the two linear layers of a block.
    pub activation: Activation,
    /// The width of an attention head of the image tower: the tower's width divided by its number of heads.
    pub vision_head_width: u32,
    /// The same of the text tower.
    pub text_head_width: u32,
    /// The mean of red, green and blue that is taken off pixels from 0 to 1.
    pub mean: [f64; 3],
    /// What they are then divided by.
    pub std: [f64; 3],
}

impl Architecture {
    /// That of every CLIP that `OpenAI` published (Radford et al. 2021, and the code published with it).
    pub const OPENAI: Self = Self {
        activation: Activation::QuickGelu,
        vision_head_width: 64,
        text_head_width: 64,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
    };

    /// The identity of a backbone: 64 hexadecimal digits. With [`Architecture::OPENAI`] it is the SHA-256 of the weights file, so
    /// that whoever has the file can compute it, and what earlier versions wrote down says the same; otherwise it is the SHA-256
    /// of that and of the architecture.
    pub fn identity(&self, weights_sha256: &str) -> String {
        if *self == Self::OPENAI {
            return weights_sha256.to_owned();
        }
        let text = serde_json::json!({ "weights_sha256": weights_sha256, "architecture": self }).to_string();
        hex(&Sha256::digest(text))
    }
}

impl Default for Architecture {
    fn default() -> Self {
        Self::OPENAI
    }
}

/// What a person says of a backbone's architecture, in `[backbones.NAME]` of a machine's settings. It wins over what lies beside
/// the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchitectureSettings {
    /// See [`Architecture::activation`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Attention heads of the image tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision_heads: Option<u32>,
    /// Attention heads of the text tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_heads: Option<u32>,
    /// See [`Architecture::mean`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// See [`Architecture::std`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
}

impl ArchitectureSettings {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses numbers with which nothing can be computed.
    pub fn check(&self) -> Result<(), InvalidInput> {
        let mut refusals = Refusals::default();
        for (field, heads) in [("vision_heads", self.vision_heads), ("text_heads", self.text_heads)] {
            if heads == Some(0) {
                refusals.add(InvalidInput::new(field, 0, "a whole number of at least 1"));
            }
        }
        for (place, value) in self.mean.iter().flatten().enumerate() {
            if !value.is_finite() {
                refusals.add(InvalidInput::new(format!("mean[{place}]"), value, "a number"));
            }
        }
        for (place, value) in self.std.iter().flatten().enumerate() {
            if !(value.is_finite() && *value > 0.0) {
                refusals.add(InvalidInput::new(format!("std[{place}]"), value, "a number greater than 0"));
            }
        }
        refusals.finish(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openais_architecture_is_identified_by_the_weights_alone() {
        let weights = "a".repeat(64);
        assert_eq!(Architecture::OPENAI.identity(&weights), weights);
        let changes: [fn(&mut Architecture); 5] = [
            |it| it.activation = Activation::Gelu,
            |it| it.vision_head_width = 80,
            |it| it.text_head_width = 80,
            |it| it.mean[2] = 0.5,
            |it| it.std[0] = 0.5,
        ];
        let mut seen = std::collections::BTreeSet::from([weights.clone()]);
        for change in changes {
            let mut other = Architecture::OPENAI;
            change(&mut other);
            let identity = other.identity(&weights);
            assert!(crate::job::spec::is_sha256(&identity) && other.identity(&"b".repeat(64)) != identity);
            assert!(seen.insert(identity));
        }
    }

    #[test]
    fn impossible_settings_are_named() {
        let wrong = ArchitectureSettings { vision_heads: Some(0), std: Some([1.0, 0.0, 1.0]), ..Default::default() };
        let error = wrong.check().unwrap_err();
        let fields: Vec<_> = error.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["vision_heads", "std[1]"]);
        ArchitectureSettings::default().check().unwrap();
    }
}
