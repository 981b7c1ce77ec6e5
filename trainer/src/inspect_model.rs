//! `inspect weights` and `inspect features` (interfaces.md, section 2): what a weights file holds, and what zero-shot CLIP makes of
//! images and texts.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use promptfield_core::names::Precision;
use tch::{Device, Tensor};

use crate::clip::{Clip, Weights};
use crate::image::{ImageCache, load_batch_test};
use crate::tokenizer::Tokenizer;

/// `inspect weights`.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    /// A weights file
    file: PathBuf,
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
}

/// Prints geometry, format, parameter count and SHA-256 as JSON.
pub fn weights(args: &WeightsArgs) -> anyhow::Result<()> {
    let weights = Weights::open(&args.file)?;
    let report = serde_json::json!({
        "format": weights.format().as_str(),
        "geometry": weights.geometry(),
        "parameters": weights.parameter_count(),
        "sha256": weights.sha256(),
    });
    writeln!(std::io::stdout().lock(), "{report:#}").context("could not write to standard output")
}

/// Writes zero-shot CLIP's features of images and texts.
pub fn features(args: &FeaturesArgs) -> anyhow::Result<()> {
    const BATCH: usize = 64;
    let clip = Clip::open(&args.weights, Device::Cpu, Precision::Fp32)?;
    let size = clip.geometry().vision.image_size;
    let (files, cache) = (image_files(&args.images)?, ImageCache::new(0));
    let mut images = Vec::new();
    for files in files.chunks(BATCH) {
        let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let pixels = Tensor::from_slice(&load_batch_test(&cache, &paths, size as usize)?);
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
