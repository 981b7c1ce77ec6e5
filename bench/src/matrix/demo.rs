//! The demo matrix: `promptfield run` beside a shell loop that starts a process for each job.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use promptfield_core::experiment::matrix::PlannedJob;
use promptfield_core::job::outcome::Manifest;
use promptfield_core::wire::api::Results;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::gaps::{Done, gaps};
use crate::args::MatrixArgs;
use crate::bundled::{self, manifests, settings_text, trainer_job};
use crate::coordinator::Coordinator;
use crate::peers::{last_line, output};
use crate::process::Cpu;
use crate::stats::Spread;

/// A run that takes longer is given up.
const LONGEST: Duration = Duration::from_hours(2);
/// Runs the jobs one after another, each in a process of its own, as a script does it.
const LOOP: &str =
    r#"trainer=$1; threads=$2; shift 2; for job; do "$trainer" run "$job" --threads "$threads" || exit; done"#;

/// The ways of running an experiment, each time with an empty output folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Demo {
    pub(super) experiment: String,
    pub(super) jobs: usize,
    pub(super) workers: u64,
    /// `promptfield run`.
    pub(super) ours: Vec<Run>,
    /// The shell loop, with all cores for each process.
    pub(super) fresh: Vec<Run>,
    /// The shell loop, with one thread for each process: several may stand in each other's way.
    pub(super) fresh_one_thread: Vec<Run>,
    /// How many jobs of the loops classified as many images correctly as `promptfield run`'s.
    pub(super) equal: usize,
    /// The largest difference of an accuracy, in percentage points.
    pub(super) largest_difference: f64,
}

/// An experiment, run once.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "seconds, in the report too")]
pub(super) struct Run {
    pub(super) wall_s: f64,
    /// CPU time of all processes.
    pub(super) cpu_s: f64,
    /// From a job's end to the first step of the next one.
    pub(super) gaps_s: Vec<f64>,
}

impl Demo {
    /// How many times longer a loop takes than `promptfield run`, by the medians.
    pub(super) fn faster_by(&self, than: &[Run]) -> f64 {
        let [ours, other] = [&self.ours, than].map(|runs| spread(runs, |run| run.wall_s).median);
        other / ours
    }
}

/// A number of each repetition.
pub(super) fn spread(runs: &[Run], of: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(runs.iter().map(of)).unwrap_or_default()
}

/// The gaps of all repetitions.
pub(super) fn all_gaps(runs: &[Run]) -> Option<Spread> {
    Spread::of(runs.iter().flat_map(|run| run.gaps_s.iter().copied()))
}

/// Runs the experiment as often as was asked for, in all ways by turns.
pub(super) async fn measure(args: &MatrixArgs) -> Result<Demo> {
    let here = std::env::current_exe().context("can't tell where this program lies")?;
    let program = fs_err::canonicalize(args.promptfield.clone().unwrap_or(here.with_file_name("promptfield")))?;
    let experiment = fs_err::canonicalize(&args.experiment)?;
    let matrix = Matrix { args, trainer: program.with_file_name("promptfield-trainer"), program, experiment };
    let jobs = bundled::jobs(&matrix.experiment)?;
    let cores = std::thread::available_parallelism().context("can't count the cores")?.get();
    let (mut ours, mut fresh, mut fresh_one_thread) = (Vec::new(), Vec::new(), Vec::new());
    let (mut equal, mut largest_difference) = (0, 0.0_f64);
    for repetition in 1..=args.repeat.get() {
        eprintln!("repetition {repetition}: `promptfield run`, {} jobs", jobs.len());
        let (run, by_ours) = matrix.ours(&jobs).await?;
        ours.push(run);
        for (threads, runs) in [(cores, &mut fresh), (1, &mut fresh_one_thread)] {
            eprintln!("repetition {repetition}: a process for each job, threads: {threads}");
            let (run, by_fresh) = matrix.fresh(&jobs, threads).await?;
            runs.push(run);
            for (a, b) in by_ours.iter().zip(&by_fresh).filter_map(|(a, b)| a.result.zip(b.result)) {
                equal += usize::from((a.correct, a.total) == (b.correct, b.total));
                largest_difference = largest_difference.max((a.accuracy - b.accuracy).abs());
            }
        }
    }
    Ok(Demo {
        experiment: args.experiment.display().to_string(),
        jobs: jobs.len(),
        workers: args.workers.get(),
        ours,
        fresh,
        fresh_one_thread,
        equal,
        largest_difference,
    })
}

struct Matrix<'a> {
    args: &'a MatrixArgs,
    program: PathBuf,
    trainer: PathBuf,
    experiment: PathBuf,
}

impl Matrix<'_> {
    /// By `promptfield run`, on an empty database.
    async fn ours(&self, jobs: &[PlannedJob]) -> Result<(Run, Vec<Manifest>)> {
        let folder = self.folder()?;
        let settings = folder.path().join("promptfield.toml");
        fs_err::write(&settings, settings_text()?)?;
        let mut command = Command::new(&self.program);
        command.arg("--settings").arg(&settings).args(["--json", "run"]).arg(&self.experiment);
        command.args(["--listen", "127.0.0.1:0", "--workers", &self.args.workers.to_string()]);
        let (wall_s, cpu_s, stdout) = timed(command, folder.path()).await?;
        let results: Results =
            serde_json::from_slice(&stdout).context("`promptfield run` printed something else than results")?;
        let completed = results.experiment.counts.completed;
        ensure!(completed == jobs.len(), "{completed} of {} jobs were completed", jobs.len());
        let manifests = manifests(folder.path(), jobs)?;
        // Which worker had which job is in the database.
        let coordinator = Coordinator::start(&self.program, folder.path()).await?;
        let details = coordinator.jobs().await?;
        coordinator.kill().await?;
        let mut done = Vec::new();
        for manifest in &manifests {
            let job = details.iter().find(|job| job.hash == manifest.spec_hash);
            let attempt = job.and_then(|job| job.attempts.last()).context("the database lacks a job's attempt")?;
            done.push(Done { slot: attempt.worker.0, manifest });
        }
        Ok((Run { wall_s, cpu_s, gaps_s: gaps(done) }, manifests))
    }

    /// By a shell loop, with so many threads for each process.
    async fn fresh(&self, jobs: &[PlannedJob], threads: usize) -> Result<(Run, Vec<Manifest>)> {
        let folder = self.folder()?;
        let mut command = Command::new("sh");
        command.args(["-c", LOOP, "sh"]).arg(&self.trainer).arg(threads.to_string());
        for (place, job) in jobs.iter().enumerate() {
            let path = folder.path().join(format!("job-{place}.json"));
            fs_err::write(&path, json!(trainer_job(job, jobs, folder.path())?).to_string())?;
            command.arg(path);
        }
        let (wall_s, cpu_s, _) = timed(command, folder.path()).await?;
        let manifests = manifests(folder.path(), jobs)?;
        let gaps_s = gaps(manifests.iter().map(|manifest| Done { slot: 0, manifest }).collect());
        Ok((Run { wall_s, cpu_s, gaps_s }, manifests))
    }

    /// An empty folder; it's removed when it's dropped.
    fn folder(&self) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix("promptfield-bench-").tempdir_in(&self.args.folder);
        folder.context("can't make a folder for outputs")
    }
}

/// Runs a program to its end: the wall-clock, the CPU time of all that it started, and what it printed.
async fn timed(mut command: Command, folder: &Path) -> Result<(f64, f64, Vec<u8>)> {
    // What this shell sets for Promptfield would hold for one of the two, or change what is measured.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PROMPTFIELD_")) {
        command.env_remove(name);
    }
    command.current_dir(folder);
    let (before, started) = (Cpu::of_children()?, Instant::now());
    let output = output(command, LONGEST).await.map_err(anyhow::Error::msg)?;
    let (wall_s, cpu) = (started.elapsed().as_secs_f64(), Cpu::of_children()? - before);
    ensure!(output.status.success(), "a run ended with {}: {}", output.status, last_line(&output.stderr));
    Ok((wall_s, cpu.total_us() as f64 / 1e6, output.stdout))
}
