//! `inspect weights` and `inspect features` (interfaces.md, section 2): what a weights file holds, and what zero-shot CLIP makes of
//! images and texts.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use promptfield_core::job::backbone::{Activation, Architecture, ArchitectureSettings};
use promptfield_core::names::Precision;
use tch::{Device, Tensor};

use crate::clip::{Backbone, Clip, Weights};
use crate::image::{ImageCache, PixelScale, load_batch_test};
use crate::tokenizer::Tokenizer;

/// What is said of weights, instead of what lies beside them.
#[derive(Debug, Args)]
pub struct BackboneArgs {
    /// The function between the linear layers: `quick_gelu` or `gelu`
    #[arg(long, value_name = "NAME")]
    activation: Option<Activation>,
    /// Attention heads of the image tower
    #[arg(long, value_name = "N")]
    vision_heads: Option<u32>,
    /// Attention heads of the text tower
    #[arg(long, value_name = "N")]
    text_heads: Option<u32>,
}

impl BackboneArgs {
    /// The same as settings.
    pub fn settings(&self) -> ArchitectureSettings {
        let Self { activation, vision_heads, text_heads } = *self;
        ArchitectureSettings { activation, vision_heads, text_heads, ..ArchitectureSettings::default() }
    }
}

/// `inspect weights`.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    /// A weights file
    file: PathBuf,
    #[command(flatten)]
    backbone: BackboneArgs,
}

/// `inspect features`.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// The weights file
    #[arg(long)]
    weights: PathBuf,
    /// Image files, or folders of which all files are taken in the order of their names
    #[arg(long, num_args = 1.., required = true, value_name = "DIR_OR_FILES")]
    images: Vec<PathBuf>,
    /// Texts
    #[arg(long, num_args = 1.., required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// Where to write `image_features` [N, E] and `text_features` [M, E], not normalised
    #[arg(long, value_name = "X.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    backbone: BackboneArgs,
}

/// Prints geometry, format, parameter count, hash and identity as JSON.
pub(super) fn weights(args: &WeightsArgs) -> anyhow::Result<()> {
    let weights = Weights::open(&args.file, &args.backbone.settings())?;
    let Backbone { weights_sha256, architecture, assumed } = weights.backbone();
    let mut geometry = serde_json::json!(weights.geometry());
    let Architecture { vision_head_width, text_head_width, .. } = *architecture;
    geometry["vision"]["heads"] = (weights.geometry().vision.width / i64::from(vision_head_width)).into();
    geometry["text"]["heads"] = (weights.geometry().text.width / i64::from(text_head_width)).into();
    let report = serde_json::json!({
        "format": weights.format().as_str(),
        "geometry": geometry,
        "parameters": weights.parameter_count(),
        "sha256": weights_sha256,
        "backbone_sha256": weights.backbone().sha256(),
        "architecture": architecture,
        "assumed": assumed,
    });
    writeln!(std::io::stdout().lock(), "{report:#}").context("could not write to standard output")
}

/// Writes zero-shot CLIP's features of images and texts.
pub(super) fn features(args: &FeaturesArgs) -> anyhow::Result<()> {
    const BATCH: usize = 64;
    let clip = Clip::open(&args.weights, &args.backbone.settings(), Device::Cpu, Precision::Fp32)?;
    let size = clip.geometry().vision.image_size;
    let scale = PixelScale::of(&clip.backbone().architecture);
    let (files, cache) = (image_files(&args.images)?, ImageCache::new(0));
    let mut images = Vec::new();
    for files in files.chunks(BATCH) {
        let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let pixels = Tensor::from_slice(&load_batch_test(&cache, &paths, size as usize, &scale)?);
        images.push(clip.image_features(&pixels.view([files.len() as i64, 3, size, size])));
    }
    let tokens = args.texts.iter().map(|text| Tokenizer::shared().encode(text)).collect::<Result<Vec<_>, _>>()?;
    let texts = clip.text_features(&tokens)?;
    let tensors = [("image_features", Tensor::cat(&images, 0)), ("text_features", texts)];
    Tensor::write_safetensors(&tensors, &args.output)
        .with_context(|| format!("cannot write `{}`", args.output.display()))
}

fn image_files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            let mut inside = Vec::new();
            for entry in fs_err::read_dir(path)? {
                inside.push(entry?.path());
            }
            inside.retain(|path| path.is_file());
            inside.sort();
            ensure!(!inside.is_empty(), "`--images`: no files in `{}`, expected at least one image", path.display());
            files.append(&mut inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}
