//! Jobs that wait: what they cost to submit, to keep and to load.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use promptfield_core::protocol::Protocol;
use serde::{Deserialize, Serialize};

use crate::coordinator::Coordinator;

/// What was measured once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// All submissions' answers.
    pub(crate) submit_s: f64,
    /// Growth of the coordinator's memory for each job.
    pub(crate) resident_per_job: f64,
    /// Bytes of the database for each job.
    pub(crate) database_per_job: f64,
    /// From the start of the killed coordinator until it could write to its database again.
    pub(crate) restart_s: f64,
    /// The restarted coordinator's memory for each job, above that of the empty one.
    pub(crate) restarted_per_job: f64,
}

/// Submits jobs as so many experiments of the same size, and starts the coordinator again.
pub(crate) async fn measure(program: &Path, folder: &Path, jobs: u64, experiments: u64) -> Result<Waiting> {
    let coordinator = Coordinator::start(program, folder).await?;
    let empty = coordinator.resident()?;
    let per_job = |bytes: u64, less: u64| bytes.saturating_sub(less) as f64 / jobs as f64;
    let each = jobs / experiments;
    let started = Instant::now();
    for index in 0..experiments {
        coordinator.submit(Protocol::FewShot, each, 1 + index * each).await?;
    }
    let submit_s = started.elapsed().as_secs_f64();
    let resident_per_job = per_job(coordinator.resident()?, empty);
    let database_per_job = per_job(coordinator.database_bytes()?, 0);
    coordinator.kill().await?;
    let again = Coordinator::start(program, folder).await?;
    let queued = again.queued().await?;
    ensure!(queued == each * experiments, "after the restart, {queued} of {jobs} jobs were left");
    let (restart_s, restarted_per_job) = (again.start_s, per_job(again.resident()?, empty));
    again.kill().await?;
    Ok(Waiting { submit_s, resident_per_job, database_per_job, restart_s, restarted_per_job })
}
