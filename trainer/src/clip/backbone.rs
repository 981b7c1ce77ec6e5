//! Which backbone a weights file is: its hash, and what its tensors' shapes don't tell.

use std::path::Path;

use promptfield_core::job::backbone::{Architecture, ArchitectureSettings};
use promptfield_core::job::spec::BasisHash;

use super::beside::{Files, Tower};
use super::weights::{Described, MappedFile, Problem, WeightsError};

/// Image towers whose heads aren't of width 64, by their width: the model and its heads, as `OpenCLIP`'s model configurations
/// `ViT-H-14.json`, `ViT-g-14.json` and `ViT-bigG-14.json` have them. All its text towers have heads of width 64.
const OTHER_HEADS: [(i64, &str, i64); 3] = [(1280, "ViT-H-14", 16), (1408, "ViT-g-14", 16), (1664, "ViT-bigG-14", 16)];

/// A backbone, identified.
#[derive(Clone, Debug, PartialEq)]
pub struct Backbone {
    /// SHA-256 of the weights file, in hexadecimal.
    pub weights_sha256: String,
    /// What the tensors don't tell.
    pub architecture: Architecture,
    /// What nothing said, so that `OpenAI`'s was taken: of `activation`, `vision_heads`, `text_heads`, `mean` and `std`, in this order.
    pub assumed: Vec<String>,
}

impl Backbone {
    /// Finds out which backbone a weights file is, without loading it. The file is read only if its hash isn't known.
    ///
    /// Each part of the architecture is what the settings say; else what `config.json`, `open_clip_config.json` and
    /// `preprocessor_config.json` beside the weights say, which must agree; else `OpenAI`'s.
    pub fn identify(path: &Path, settings: &ArchitectureSettings) -> Result<Self, WeightsError> {
        let file = MappedFile::open(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        Ok(Described::read(path, &file, settings)?.backbone)
    }

    /// The identity by which results, checkpoints, caches and workers are compared, in hexadecimal.
    pub fn sha256(&self) -> String {
        self.architecture.identity(&self.weights_sha256)
    }

    /// The same.
    pub fn basis(&self) -> Option<BasisHash> {
        self.sha256().parse().ok()
    }
}

impl std::fmt::Display for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Architecture { activation, vision_head_width, text_head_width, mean, std } = self.architecture;
        write!(
            f,
            "activation {activation}, heads of width {vision_head_width} and {text_head_width}, pixels less {mean:?} over {std:?}"
        )?;
        if self.assumed.is_empty() { Ok(()) } else { write!(f, ", assumed: {}", self.assumed.join(", ")) }
    }
}

/// The architecture of the weights at `path`, whose towers have these widths, and what of it was assumed.
pub(super) fn architecture(
    path: &Path,
    [vision, text]: [i64; 2],
    settings: &ArchitectureSettings,
) -> Result<(Architecture, Vec<String>), WeightsError> {
    let unfit = |problem| WeightsError::Unfit { path: path.to_owned(), problem };
    settings.check().map_err(|error| unfit(Problem::Architecture(error.to_string())))?;
    let files = Files::read(path)?;
    let mut assumed = Vec::new();
    let activation = settings.activation.map_or_else(|| files.activation(), |said| Ok(Some(said)))?;
    let activation = or_assumed("activation", activation, Architecture::OPENAI.activation, &mut assumed);
    let mut head_width = |tower, width, said: Option<u32>| {
        let heads = said.map_or_else(|| files.heads(tower, width), |said| Ok(Some(i64::from(said))))?;
        head_width(tower, width, heads, &mut assumed).map_err(unfit)
    };
    let vision_head_width = head_width(Tower::Vision, vision, settings.vision_heads)?;
    let text_head_width = head_width(Tower::Text, text, settings.text_heads)?;
    let mean = settings.mean.map_or_else(|| files.mean(), |said| Ok(Some(said)))?;
    let mean = or_assumed("mean", mean, Architecture::OPENAI.mean, &mut assumed);
    let std = settings.std.map_or_else(|| files.std(), |said| Ok(Some(said)))?;
    let std = or_assumed("std", std, Architecture::OPENAI.std, &mut assumed);
    Ok((Architecture { activation, vision_head_width, text_head_width, mean, std }, assumed))
}

fn or_assumed<T>(field: &str, said: Option<T>, openais: T, assumed: &mut Vec<String>) -> T {
    said.unwrap_or_else(|| {
        assumed.push(field.to_owned());
        openais
    })
}

/// The width of a head of a tower, from the number of heads that it is said to have.
fn head_width(tower: Tower, width: i64, heads: Option<i64>, assumed: &mut Vec<String>) -> Result<u32, Problem> {
    let name = tower.name();
    let field = format!("{name}_heads");
    let openais = match tower {
        Tower::Vision => Architecture::OPENAI.vision_head_width,
        Tower::Text => Architecture::OPENAI.text_head_width,
    };
    if let Some(heads) = heads {
        return match width % heads {
            0 => Ok((width / heads) as u32),
            _ => Err(format!("`{field}` is {heads}, expected a divisor of {width}, the width of the {name} tower")),
        }
        .map_err(Problem::Architecture);
    }
    let other = OTHER_HEADS.iter().find(|(other, ..)| tower == Tower::Vision && *other == width);
    let why = match other {
        Some((_, model, heads)) => format!("OpenCLIP's {model} has {heads} of width {}", width / heads),
        None if width % i64::from(openais) == 0 => {
            assumed.push(field);
            return Ok(openais);
        }
        None => format!("it isn't a multiple of {openais}, the width of a head of OpenAI's CLIPs"),
    };
    let number = other.map_or_else(|| "N".to_owned(), |(_, _, heads)| heads.to_string());
    Err(Problem::Architecture(format!(
        "nothing says how many attention heads the {name} tower of width {width} has ({why}): expected `{field} = {number}` in \
         `[backbones.NAME]` of the settings, or the model's own `config.json` or `open_clip_config.json` beside the weights"
    )))
}
