//! Real Slurm clusters on loopback, for tests and benchmarks.
//!
//! A [`Cluster`] is a controller, its nodes and an authentication service of its own, all in one temporary folder: it needs
//! no rights, no systemd and no cgroups, and any number of them run side by side. The GPUs are names only: a job that asks
//! for one finds `CUDA_VISIBLE_DEVICES` set, as it would elsewhere.
//!
//! Rule of this crate: nothing outlives its cluster. The daemons are children in the foreground, and whatever else runs (the
//! batch scripts, and what those started) is found in `/proc` by the cluster's paths, never by a remembered number. Dropping
//! the cluster ends all of it and removes the folder. If the process that holds the cluster is itself killed, a small script
//! notices, by the end of its input, and does the same.
//!
//! What can't be hurried: Slurm looks at time limits every 30 s, so a job is stopped that much after its limit, and hears of
//! it (`sbatch --signal`) that much too early. `scontrol update jobid=N EndTime=now+1` spares waiting for the limit itself.

mod cluster;
mod configuration;
mod jobs;
mod ports;
mod processes;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub use cluster::Cluster;
pub use configuration::Plan;
pub use jobs::Job;

/// Waits until a condition holds; an error of the condition's own, or that it doesn't hold in time, is an error.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < limit, "after {} s still not: {what}", limit.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
