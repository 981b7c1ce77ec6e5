//! `inspect data`: a data root as jobs would find it, as JSON on stdout; how far the check is goes to stderr.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, value_parser};
use promptfield_core::chain::chain;
use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::input::InvalidInput;
use promptfield_core::wire::data_report::{DataReport, ImageCheck};

use super::data_check::{self, Watch};
use crate::data::{self, DataError};

/// `inspect data`.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The data sets; all that are known if none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The folder with the data sets' folders
    #[arg(long, value_name = "DIR")]
    data_root: PathBuf,
    /// A folder with TOML files of your own data sets
    #[arg(long, value_name = "DIR")]
    datasets: Option<PathBuf>,
    /// Look only at how images begin instead of decoding them
    #[arg(long)]
    quick: bool,
    /// CPU threads; all cores if not given
    #[arg(long, value_name = "N", env = "PROMPTFIELD_THREADS", value_parser = value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// Checks the data sets one after the other and prints a [`DataReport`].
pub(super) fn run(args: &DataArgs) -> anyhow::Result<()> {
    if !args.data_root.is_dir() {
        let expected = "the folder that holds the data sets' folders";
        return Err(InvalidInput::new("data-root", args.data_root.display(), expected).into());
    }
    let (definitions, wrong) = chosen(args)?;
    // Without a number rayon takes all cores.
    rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or_default().into()).build_global()?;
    let depth = if args.quick { ImageCheck::Quick } else { ImageCheck::Decoded };
    let watch = OnStderr::new();
    let report = DataReport {
        data_root: args.data_root.clone(),
        images: depth,
        datasets: definitions
            .iter()
            .map(|definition| data_check::check(definition, &args.data_root, depth, &watch))
            .collect(),
        wrong_definitions: wrong.iter().map(|error| chain(error)).collect(),
    };
    let text = serde_json::to_string_pretty(&report)?;
    writeln!(std::io::stdout().lock(), "{text}").context("could not write to standard output")
}

/// The definitions of the names that were given, or all of them; then also what is wrong with one's own.
fn chosen(args: &DataArgs) -> Result<(Vec<DatasetDefinition>, Vec<DataError>), DataError> {
    let folder: Option<&Path> = args.datasets.as_deref();
    if args.names.is_empty() {
        let (catalogue, wrong) = data::all_definitions(folder, &args.data_root);
        return Ok((catalogue.definitions().cloned().collect(), wrong));
    }
    let mut names: Vec<&str> = Vec::new();
    for name in &args.names {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let definitions = names.into_iter().map(|name| data::find_definition(folder, &args.data_root, name));
    Ok((definitions.collect::<Result<_, _>>()?, Vec::new()))
}

/// How far the check is: one line that changes on a terminal, else a line every now and then.
struct OnStderr {
    terminal: bool,
    done: AtomicUsize,
    shown: Mutex<Shown>,
}

struct Shown {
    dataset: String,
    images: usize,
    last: Instant,
}

impl OnStderr {
    fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            done: AtomicUsize::new(0),
            shown: Mutex::new(Shown { dataset: String::new(), images: 0, last: Instant::now() }),
        }
    }
}

impl Watch for OnStderr {
    fn begin(&self, dataset: &str, images: usize) {
        self.done.store(0, Ordering::Relaxed);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Shown { dataset: dataset.to_owned(), images, last: Instant::now() };
    }

    fn looked(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let every = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        // Whoever finds the line in use leaves it to the other thread.
        let Ok(mut shown) = self.shown.try_lock() else { return };
        if shown.last.elapsed() >= every {
            shown.last = Instant::now();
            let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            // Who closed stderr wants no lines; the check goes on.
            let _ =
                write!(std::io::stderr(), "{start}{}: {done} of {} images checked{end}", shown.dataset, shown.images);
        }
    }

    fn end(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
