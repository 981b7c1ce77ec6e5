//! All measurements, one after another.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use promptfield_core::protocol::Protocol;
use tempfile::TempDir;

use crate::args::CoordinatorArgs;
use crate::cell::{self, Cell, plan};
use crate::fleet::Plan;
use crate::machine::Machine;
use crate::report::{CellRuns, Report, WaitingRuns};
use crate::{markdown, peers, waiting};

/// The jobs that workers of one slot are measured with.
const SINGLE_JOBS: u64 = 10_000;
/// The experiments that a large load is submitted as.
const EXPERIMENTS: u64 = 10;

/// Measures what the arguments ask for; writes it as JSON, and prints it as Markdown. What it's at goes to stderr.
pub(crate) async fn run(args: &CoordinatorArgs) -> Result<()> {
    let bench = Bench { args, program: program(args)? };
    let report = bench.report().await?;
    fs_err::create_dir_all(&args.results)?;
    let json = serde_json::to_string_pretty(&report).context("can't put the report into JSON")?;
    fs_err::write(args.results.join("coordinator.json"), json + "\n")?;
    print!("{}", markdown::tables(&report));
    Ok(())
}

struct Bench<'a> {
    args: &'a CoordinatorArgs,
    /// The program that is measured.
    program: PathBuf,
}

impl Bench<'_> {
    async fn report(&self) -> Result<Report> {
        let args = self.args;
        let machine = Machine::here(self.folder()?.path())?;
        let mut cells = Vec::new();
        for &protocol in &args.protocols {
            for jobs in &args.jobs {
                for slots in &args.slots {
                    let cell = Cell { protocol, jobs: jobs.get(), slots: slots.get() };
                    cells.push(self.cell(cell, plan(cell.slots)).await?);
                }
            }
        }
        let most = args.jobs.iter().map(|jobs| jobs.get()).max().unwrap_or(1);
        let single = match args.single {
            0 => None,
            workers => {
                let cell = Cell { protocol: Protocol::FewShot, jobs: most.min(SINGLE_JOBS), slots: workers };
                Some(self.cell(cell, Plan { processes: 1, workers, slots: 1, prefetch: 0 }).await?)
            }
        };
        let mut waiting = vec![self.waiting(most, 1).await?];
        if args.loaded > 0 {
            waiting.push(self.waiting(args.loaded, EXPERIMENTS).await?);
        }
        let peers = peers::measure(args, most, || self.folder()).await?;
        Ok(Report { machine, cells, single, waiting, peers })
    }

    async fn cell(&self, cell: Cell, plan: Plan) -> Result<CellRuns> {
        eprintln!("{} jobs of {} on {} slots", cell.jobs, cell.protocol, cell.slots);
        let mut runs = Vec::new();
        for _ in 0..self.args.repeat.get() {
            runs.push(cell::measure(&self.program, self.folder()?.path(), cell, plan).await?);
        }
        Ok(CellRuns { cell, runs })
    }

    async fn waiting(&self, jobs: u64, experiments: u64) -> Result<WaitingRuns> {
        eprintln!("{jobs} jobs that wait");
        let mut runs = Vec::new();
        for _ in 0..self.args.repeat.get() {
            runs.push(waiting::measure(&self.program, self.folder()?.path(), jobs, experiments).await?);
        }
        Ok(WaitingRuns { jobs, experiments, runs })
    }

    /// An empty folder on the disk that is measured; it's removed when it's dropped.
    fn folder(&self) -> Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("promptfield-bench-");
        let made = self.args.folder.as_ref().map_or_else(|| folder.tempdir(), |parent| folder.tempdir_in(parent));
        made.context("can't make a folder for the databases")
    }
}

fn program(args: &CoordinatorArgs) -> Result<PathBuf> {
    match &args.promptfield {
        Some(program) => Ok(fs_err::canonicalize(program)?),
        None => {
            Ok(std::env::current_exe().context("can't tell where this program lies")?.with_file_name("promptfield"))
        }
    }
}
