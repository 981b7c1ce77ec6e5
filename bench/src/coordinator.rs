//! The coordinator's process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use promptfield_client::{Client, ClientOptions, Connection};
use promptfield_core::id::ExperimentId;
use promptfield_core::protocol::Protocol;
use promptfield_core::wire::api::{JobDetail, SubmitResponse};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::process::{Cpu, resident, threads};
use crate::worker::BACKBONE;

/// How long a coordinator may take to start.
const START_TIME: Duration = Duration::from_mins(5);

/// A running `promptfield serve` with its default settings, killed when it's dropped.
#[derive(Debug)]
pub(crate) struct Coordinator {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub(crate) url: String,
    client: Client,
    /// From the start of the process until it could write to its database, in seconds.
    pub(crate) start_s: f64,
}

impl Coordinator {
    /// Starts it on the state that the folder holds, if any.
    pub(crate) async fn start(program: &Path, folder: &Path) -> Result<Self> {
        let settings = folder.join("promptfield.toml");
        // An empty one, so that none of this machine is found.
        fs_err::write(&settings, "")?;
        let started = Instant::now();
        let mut child = Command::new(program)
            .arg("--settings")
            .arg(&settings)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", program.display()))?;
        let stderr = child.stderr.take().context("the coordinator has no stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        let first = tokio::time::timeout(START_TIME, lines.next_line()).await;
        let first = first.context("the coordinator doesn't start")??.unwrap_or_default();
        let url = first.strip_prefix("coordinator at ").with_context(|| format!("the coordinator says: {first}"))?;
        let client = Client::new(url, &Connection::default(), ClientOptions::default())?;
        while client.ready().await.is_err() {
            ensure!(started.elapsed() < START_TIME, "the coordinator at {url} is never ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let start_s = started.elapsed().as_secs_f64();
        let url = url.to_owned();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("coordinator: {line}");
            }
        });
        Ok(Self { child, folder: folder.to_owned(), url, client, start_s })
    }

    /// Submits so many jobs of a protocol, with seeds that begin at `first_seed`.
    pub(crate) async fn submit(&self, protocol: Protocol, jobs: u64, first_seed: u64) -> Result<ExperimentId> {
        let seeds = jobs / jobs_per_seed(protocol);
        let experiment = serde_json::json!({
            "name": format!("{jobs} jobs"),
            "protocol": protocol,
            "methods": ["alignednorm"],
            "datasets": ["eurosat"],
            "seeds": (first_seed..first_seed + seeds).collect::<Vec<u64>>(),
            "backbone": BACKBONE,
        });
        let SubmitResponse { created, experiment } = self.client.submit(&experiment, None).await?;
        let counts = &experiment.counts;
        let submitted = counts.blocked + counts.queued + counts.leased + counts.running + counts.completed;
        ensure!(created && submitted as u64 == jobs, "{jobs} jobs were submitted, and {submitted} were added");
        Ok(experiment.id)
    }

    /// An experiment's completed jobs.
    pub(crate) async fn completed(&self, experiment: ExperimentId) -> Result<u64> {
        Ok(self.client.experiment(experiment).await?.counts.completed as u64)
    }

    /// The queued jobs of all experiments.
    pub(crate) async fn queued(&self) -> Result<u64> {
        let experiments = self.client.experiments().await?;
        Ok(experiments.iter().map(|experiment| experiment.counts.queued as u64).sum())
    }

    /// The jobs of all experiments, with all that is known of them.
    pub(crate) async fn jobs(&self) -> Result<Vec<JobDetail>> {
        let mut jobs = Vec::new();
        for experiment in self.client.experiments().await? {
            for job in self.client.jobs(experiment.id, None).await? {
                jobs.push(self.client.job(job.id).await?);
            }
        }
        Ok(jobs)
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.pid()?)
    }

    /// What its threads have used, by name.
    pub(crate) fn threads(&self) -> Result<BTreeMap<String, Cpu>> {
        threads(self.pid()?)
    }

    /// Its memory in RAM, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        resident(self.pid()?)
    }

    /// The bytes of its database, the write-ahead log among them.
    pub(crate) fn database_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs_err::read_dir(self.folder.join("var"))? {
            let metadata = entry?.metadata().context("can't tell a file's size")?;
            bytes += if metadata.is_file() { metadata.len() } else { 0 };
        }
        Ok(bytes)
    }

    /// Ends it by SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("can't kill the coordinator")
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("the coordinator has ended")
    }
}

/// The jobs that a protocol makes of each seed.
pub(crate) const fn jobs_per_seed(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::FewShot => 1,
        Protocol::BaseToNew | Protocol::CrossDataset => 2,
    }
}
