//! `promptfield-trainer inspect`: what the parts of the trainer make of one input, for comparing with other code.
//!
//! Rule of this room: a subcommand calls the same functions as a training job and prints or writes their result, in the
//! formats of the interfaces; it computes nothing of its own.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::outcome::LeftOut;
use promptfield_core::protocol::ClassSubset;
use safetensors::tensor::{Dtype, TensorView};

use super::{inspect_data, inspect_model, inspect_outputs};
use crate::talk::talk;
use crate::tokenizer::{Tokenizer, Tokens};
use crate::{data, image};

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum InspectCommand {
    /// Print the 77 token ids of each text as JSON
    Tokens(TokensArgs),
    /// Write an image as CLIP sees it at test time
    Image(ImageArgs),
    /// Print the images and labels that a job would train and test on as JSON
    Split(SplitArgs),
    /// Check a data root: print as JSON which data sets are there, what they lack and which images can't be read
    Data(inspect_data::DataArgs),
    /// Say what lies in output folders, and what the data sets that they rest on are now: questions and answers are JSON lines
    Outputs(inspect_outputs::OutputsArgs),
    /// Print a weights file's geometry, format, parameter count, SHA-256 and backbone as JSON
    Weights(inspect_model::WeightsArgs),
    /// Write zero-shot CLIP's features of images and texts
    Features(inspect_model::FeaturesArgs),
}

/// `inspect tokens`.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// The texts
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
}

/// `inspect image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// A JPEG or PNG image
    file: PathBuf,
    /// Height and width in pixels
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u16).range(1..))]
    size: u16,
    /// Where to write the tensor `image` [3, H, W]
    #[arg(long, value_name = "X.safetensors")]
    output: PathBuf,
}

/// `inspect split`.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// The folder with the data sets' folders
    #[arg(long)]
    data_root: PathBuf,
    /// A folder with TOML files of your own data sets
    #[arg(long, value_name = "DIR")]
    datasets: Option<PathBuf>,
    /// The data set's name, such as `caltech101`
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Training images per class; 0 takes all
    #[arg(long)]
    shots: u32,
    /// The run's seed
    #[arg(long)]
    seed: u64,
    /// Which classes: all, base or new
    #[arg(long, default_value_t = ClassSubset::All)]
    classes: ClassSubset,
}

/// Runs one subcommand.
pub fn run(command: InspectCommand) -> anyhow::Result<()> {
    match command {
        InspectCommand::Tokens(args) => tokens(&args),
        InspectCommand::Image(args) => write_image(&args),
        InspectCommand::Split(args) => split(&args),
        InspectCommand::Data(args) => inspect_data::run(&args),
        InspectCommand::Outputs(args) => inspect_outputs::run(&args),
        InspectCommand::Weights(args) => inspect_model::weights(&args),
        InspectCommand::Features(args) => inspect_model::features(&args),
    }
}

fn tokens(args: &TokensArgs) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::shared();
    let rows: Vec<Tokens> = args.texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_, _>>()?;
    let rows: Vec<&[u32]> = rows.iter().map(<[u32; 77]>::as_slice).collect();
    print_line(&serde_json::to_string(&rows)?)
}

fn write_image(args: &ImageArgs) -> anyhow::Result<()> {
    let scale = image::PixelScale::of(&Architecture::OPENAI);
    let pixels = image::test_pixels(&image::decode(&args.file)?, usize::from(args.size), &scale);
    let bytes: Vec<u8> = pixels.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = TensorView::new(Dtype::F32, vec![pixels.channels, pixels.height, pixels.width], &bytes)?;
    let file = safetensors::serialize(HashMap::from([("image", tensor)]), None)?;
    fs_err::write(&args.output, file).context("could not write the tensor")
}

fn split(args: &SplitArgs) -> anyhow::Result<()> {
    let definition = data::find_definition(args.datasets.as_deref(), &args.data_root, &args.dataset)?;
    let split = data::load(&definition, &args.data_root, args.shots, args.seed, args.classes)?;
    if split.test.is_empty() {
        let refusal = data::no_test_images(&definition, &args.data_root, args.classes);
        talk(format_args!("warning: jobs refuse this: {refusal}"));
    }
    for LeftOut { class, images } in &split.left_out {
        talk(format_args!("warning: class `{class}` has no training image: its {images} test images are left out"));
    }
    print_line(&split.to_json())
}

fn print_line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("could not write to standard output")
}
