//! Both programs measure themselves; here they are started and what they print is read.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::case::Case;
use super::work::TextRows;
use crate::peers::{FOLDER, last_line, output};
use crate::stats::Spread;

/// A cell that takes longer is given up.
const LONGEST: Duration = Duration::from_mins(30);

/// What `promptfield-trainer measure` prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ours {
    pub(super) version: String,
    /// Floating-point operations of products of matrices in a second of CPU time.
    pub(super) gemm_flops_per_cpu_s: f64,
    pub(super) text_rows: TextRows,
    /// What of the memory lies in mapped files.
    pub(super) file_bytes: u64,
    #[serde(flatten)]
    pub(super) times: Times,
}

/// What `plain_trainer.py` prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plain {
    /// That of `PyTorch`.
    pub(super) version: String,
    #[serde(flatten)]
    pub(super) times: Times,
}

/// What both measure.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Times {
    pub(super) losses: Vec<f64>,
    step_s: Vec<f64>,
    step_cpu_s: Vec<f64>,
    /// The most memory during the steps.
    pub(super) peak_bytes: u64,
    evaluation_s: Vec<f64>,
    evaluation_cpu_s: Vec<f64>,
}

impl Times {
    /// A step's time; the first one, which makes things ready, doesn't count.
    pub(super) fn step_s(&self) -> f64 {
        median(&self.step_s)
    }

    /// The CPU time of a step.
    pub(super) fn step_cpu_s(&self) -> f64 {
        median(&self.step_cpu_s)
    }

    /// The time of all images of an evaluation.
    pub(super) fn evaluation_s(&self) -> f64 {
        median(&self.evaluation_s)
    }

    /// The CPU time of all images of an evaluation.
    pub(super) fn evaluation_cpu_s(&self) -> f64 {
        median(&self.evaluation_cpu_s)
    }
}

fn median(times: &[f64]) -> f64 {
    Spread::of(times.iter().skip(1).copied()).unwrap_or_default().median
}

/// Measures the trainer, which writes the input of both, with a cache or without.
pub(super) async fn ours(program: &Path, case: &Case<'_>, cache: Option<&Path>) -> Result<Ours> {
    let job = case.folder.join("job.json");
    fs_err::write(&job, case.job().to_string())?;
    let mut command = Command::new(program);
    command.arg("measure").arg("--job").arg(&job).arg("--weights").arg(case.weights);
    command.arg("--input").arg(case.folder.join("input.safetensors"));
    command.args(["--batch", &case.cell.batch.to_string(), "--steps", &case.args.steps().to_string()]);
    command.args(["--images", &case.args.images.to_string(), "--threads", &case.args.threads.to_string()]);
    if let Some(cache) = cache {
        command.arg("--frozen-cache").arg(cache);
    }
    run(command).await.map_err(anyhow::Error::msg)
}

/// Measures plain `PyTorch` on the same input.
pub(super) async fn plain(python: &Path, program: &Path, case: &Case<'_>) -> Result<Plain, String> {
    let mut command = Command::new(program);
    command.args(["inspect", "tokens"]).args(case.prompts());
    let mut job = case.job();
    job["tokens"] = run(command).await?;
    let path = case.folder.join("plain.json");
    fs_err::write(&path, job.to_string()).map_err(|error| error.to_string())?;
    let mut command = Command::new(python);
    command.arg(Path::new(FOLDER).join("plain_trainer.py")).arg(path).arg(case.weights);
    command.arg(case.folder.join("input.safetensors")).arg(case.args.threads.to_string());
    // As the trainer has it: threads that spin for long while they wait take the cores from others.
    command.env("GOMP_SPINCOUNT", "2000").env_remove("OMP_WAIT_POLICY");
    run(command).await
}

async fn run<T: DeserializeOwned>(command: Command) -> Result<T, String> {
    let output = output(command, LONGEST).await?;
    read(&output).map_err(|error| format!("{error:#}"))
}

fn read<T: DeserializeOwned>(output: &Output) -> Result<T> {
    ensure!(output.status.success(), "it ended with {}: {}", output.status, last_line(&output.stderr));
    let line = last_line(&output.stdout);
    serde_json::from_str(&line).with_context(|| format!("it printed no measurement, but `{line}`"))
}
