//! The workers that `run` and `up` start on this machine.
//!
//! Each is a process of its own, so that one that dies takes nothing with it: it is started again. Their stdin is a pipe
//! that nobody writes to; when this process ends, however it ends, they read its end and stop.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use promptfield_worker::Program;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::exit;

/// A worker that lives for less than this has died at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// After so many deaths at once in a row there is no hope.
const MOST_DEATHS: u32 = 5;
/// How long workers may take to give their jobs back.
const GRACE: Duration = Duration::from_secs(20);

/// What is needed to start a worker.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// This program and its trainer, as they were when it started: an upgrade meanwhile is for the next start.
    program: Program,
    trainer: Program,
    settings: Option<PathBuf>,
    token_file: Option<PathBuf>,
    coordinator: String,
    workers: usize,
    threads: usize,
}

impl Fleet {
    /// A fleet that divides the machine's cores among its workers' slots.
    pub(crate) fn new(context: &Context, coordinator: String, workers: usize) -> anyhow::Result<Self> {
        let Context { settings, token_file, .. } = context;
        let threads = settings.threads.unwrap_or_else(|| threads_for(workers * settings.slots));
        let program = std::env::current_exe().context("can't tell where this program lies")?;
        Ok(Self {
            program: Program::open(&program)?,
            trainer: Program::open(&settings.trainer)?,
            settings: settings.file.clone(),
            token_file: token_file.clone(),
            coordinator,
            workers,
            threads,
        })
    }

    /// Runs the fleet until `shutdown`, or until a worker can't be kept alive.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let keepers = (1..=self.workers).map(|index| self.keep(index, shutdown.clone()));
        futures_util::future::try_join_all(keepers).await.map(|_| ())
    }

    /// Keeps one worker alive.
    async fn keep(&self, index: usize, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut deaths = 0;
        loop {
            let mut child = self.spawn(index)?;
            // Held apart: waiting for a child closes the stdin that it still has.
            let stdin = child.stdin.take();
            let started = Instant::now();
            tokio::select! {
                status = child.wait() => {
                    let status = status.context("can't wait for a worker")?;
                    if shutdown.is_cancelled() {
                        return Ok(());
                    }
                    let hopeless = [exit::BAD_INPUT, exit::REFUSED].map(|code| Some(i32::from(code))).contains(&status.code());
                    anyhow::ensure!(!hopeless, "worker {index} can't run with these settings");
                    deaths = if started.elapsed() < AT_ONCE { deaths + 1 } else { 0 };
                    anyhow::ensure!(deaths < MOST_DEATHS, "worker {index} died {deaths} times in a row, the last time with {status}");
                    tracing::warn!(worker = index, %status, "worker {index} died and is started again");
                }
                () = shutdown.cancelled() => {
                    drop(stdin);
                    return stop(child).await;
                }
            }
        }
    }

    fn spawn(&self, index: usize) -> anyhow::Result<Child> {
        let mut command = Command::new(self.program.to_run());
        if let Some(settings) = &self.settings {
            command.arg("--settings").arg(settings);
        }
        if let Some(file) = &self.token_file {
            command.arg("--token-file").arg(file);
        }
        command.args(["work", "--until-stdin-ends", "--shared-output", "--coordinator", &self.coordinator]);
        command.args(["--name", &format!("local-{index}"), "--threads", &self.threads.to_string()]);
        if self.trainer.is_replaced() {
            command.arg("--trainer").arg(self.trainer.to_run());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().context("can't start a worker")
    }
}

/// The CPU threads of each of so many trainers on this machine: more of them than cores would stand in each other's way.
pub(crate) fn threads_for(trainers: usize) -> usize {
    let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Slurm may give fewer, and not hold one to it.
    let given = std::env::var("SLURM_CPUS_ON_NODE").ok().and_then(|cores| cores.parse().ok());
    (given.map_or(machine, |given: usize| given.min(machine)) / trainers).max(1)
}

/// Waits while a worker gives its jobs back.
async fn stop(mut child: Child) -> anyhow::Result<()> {
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.context("can't end a worker that doesn't stop")?;
    }
    Ok(())
}
