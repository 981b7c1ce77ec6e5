//! `cargo xtask bench trainer`: training steps and evaluation, beside the same method in plain `PyTorch`.
//!
//! Both get the same weights, initial parameters, batches and threads, one after the other; each measures itself
//! ([`Ours`], [`Plain`]).

mod case;
mod markdown;
mod measure;
mod pace;
mod weights;
mod work;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::args::TrainerArgs;
use crate::machine::Machine;
use crate::peers;
pub(crate) use case::{Backbone, Cell, TARGETS};
use measure::{Ours, Plain, Times};
pub(crate) use pace::{CellPaces, Pace};

/// The report's name in the folder of results.
pub(crate) const FILE: &str = "trainer.json";

/// Everything that one run measured, as `trainer.json` holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    threads: u16,
    cells: Vec<CellReport>,
}

/// A cell of a backbone.
#[derive(Debug, Serialize, Deserialize)]
struct CellReport {
    backbone: Backbone,
    #[serde(flatten)]
    cell: Cell,
    /// Images of an evaluation.
    images: u32,
    ours: Ours,
    /// Ours once more, with what the frozen towers make of the images in the cache.
    warm: Times,
    /// What plain `PyTorch` measured, or why it didn't.
    plain: Result<Plain, String>,
}

/// Measures what the arguments ask for; writes it as JSON, and prints it as Markdown. What it's at goes to stderr.
pub(crate) async fn run(args: &TrainerArgs) -> Result<()> {
    let here = std::env::current_exe().context("can't tell where this program lies")?;
    let beside = here.with_file_name("promptfield-trainer");
    let program = fs_err::canonicalize(args.trainer.as_deref().unwrap_or(&beside))?;
    let machine = Machine::here(&args.folder)?;
    let python = if args.no_peer {
        Err("it was left out".to_owned())
    } else {
        peers::install(&args.packages, "torch.txt").await
    };
    let folder = tempfile::Builder::new().prefix("promptfield-bench-").tempdir_in(&args.folder);
    let folder = folder.context("can't make a folder for the inputs")?;
    let mut cells = Vec::new();
    for &backbone in &args.backbones {
        let weights = backbone.weights(&args.folder)?;
        for cell in args.cells() {
            eprintln!("{backbone}: {} classes, batches of {}", cell.classes, cell.batch);
            let case = case::Case { cell, weights: &weights, folder: folder.path(), args };
            let ours = measure::ours(&program, &case, None).await?;
            let cache = tempfile::tempdir_in(folder.path()).context("can't make a folder for the cache")?;
            measure::ours(&program, &case, Some(cache.path())).await?;
            let warm = measure::ours(&program, &case, Some(cache.path())).await?.times;
            drop(cache);
            let plain = match &python {
                Ok(python) => measure::plain(python, &program, &case).await,
                Err(reason) => Err(reason.clone()),
            };
            cells.push(CellReport { backbone, cell, images: args.images, ours, warm, plain });
        }
    }
    let report = Report { machine, threads: args.threads.get(), cells };
    fs_err::create_dir_all(&args.results)?;
    let json = serde_json::to_string_pretty(&report).context("can't put the report into JSON")?;
    fs_err::write(args.results.join(FILE), json + "\n")?;
    print!("{}", markdown::tables(&report));
    Ok(())
}
