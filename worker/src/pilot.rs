//! What is different for a worker that was started on demand: its time is limited, and it goes when nobody wants it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use promptfield_core::scheduler::pilot_records::slurm_seconds;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Agent;

/// So long before its time is up, a worker gives back what it's at: stopping its trainers takes up to ten seconds.
const LAST: Duration = Duration::from_secs(20);
/// How often it's looked at whether anybody is there.
const LOOK: Duration = Duration::from_secs(5);
/// How long Slurm may take to say how much time is left.
const SLURM_PATIENCE: Duration = Duration::from_secs(30);

/// How a worker was started on demand.
#[derive(Clone, Debug)]
pub struct Pilot {
    /// By what the coordinator knows it: `BATCH.INDEX`.
    pub key: String,
    /// It goes when the coordinator has been out of reach for so long, and it's at nothing.
    pub leave_after: Duration,
    /// So long before its time is up, it takes no more jobs.
    pub lead: Duration,
    /// How much time it has, where that is known.
    pub time_left: Option<Duration>,
}

/// When a worker's time is up.
#[derive(Debug)]
pub(crate) struct Deadline(Mutex<Option<Instant>>);

impl Deadline {
    pub(crate) const fn new(at: Option<Instant>) -> Self {
        Self(Mutex::new(at))
    }

    pub(crate) fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it earlier.
    fn no_later_than(&self, at: Instant) {
        let mut deadline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = Some(deadline.map_or(at, |known| known.min(at)));
    }

    /// How much time is left, in milliseconds.
    pub(crate) fn left_ms(&self) -> Option<i64> {
        let left = self.get()?.saturating_duration_since(Instant::now());
        Some(i64::try_from(left.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Ends a pilot in time, and when nobody wants it. Returns when the worker shuts down.
pub(crate) async fn tend(agent: &Agent) {
    let Some(pilot) = &agent.options.pilot else { return };
    let ended = agent.shutdown.cancelled();
    tokio::select! {
        () = ended => {}
        () = async { tokio::join!(end_in_time(agent, pilot), leave_when_alone(agent, pilot)); } => {}
    }
}

async fn end_in_time(agent: &Agent, pilot: &Pilot) {
    let near_its_end = async {
        match agent.deadline.get() {
            Some(deadline) => sleep_until(earlier(deadline, pilot.lead)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = near_its_end => {}
        // Somebody says so, who may know better.
        () = agent.ending.cancelled() => agent.deadline.no_later_than(Instant::now() + pilot.lead),
    }
    tracing::info!("its time is nearly up: the worker takes no more jobs");
    agent.drain.cancel();
    let worker = agent.registration.current().await;
    // The coordinator sees it at the next request otherwise.
    if let Err(error) = agent.coordinator.client.drain(worker).await {
        tracing::debug!("the coordinator doesn't hear that the worker takes no more jobs: {error}");
    }
    if let Some(deadline) = agent.deadline.get() {
        sleep_until(earlier(deadline, LAST)).await;
        tracing::info!("its time is up: the worker gives back what it's at");
        agent.shutdown.cancel();
    }
}

fn earlier(at: Instant, by: Duration) -> Instant {
    at.checked_sub(by).unwrap_or(at)
}

/// Nobody may be there any more to say that the worker isn't wanted.
async fn leave_when_alone(agent: &Agent, pilot: &Pilot) {
    loop {
        let alone_since = agent.coordinator.out_of_reach_since().filter(|_| agent.is_idle());
        let alone_for = alone_since.map_or(Duration::ZERO, |since| since.elapsed());
        if alone_for >= pilot.leave_after {
            tracing::warn!("the coordinator has been out of reach for {} s: the worker ends", alone_for.as_secs());
            agent.shutdown.cancel();
            return;
        }
        sleep(pilot.leave_after.saturating_sub(alone_for).min(LOOK)).await;
    }
}

/// How much time Slurm gives the job that this process is a part of; `None` where it's no job, or where its time isn't limited.
pub async fn slurm_time_left() -> Option<Duration> {
    let job = std::env::var("SLURM_JOB_ID").ok()?;
    let mut command = tokio::process::Command::new("squeue");
    command.args(["--noheader", "--format=%L", "--jobs", &job]).kill_on_drop(true);
    let output = match timeout(SLURM_PATIENCE, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            tracing::warn!("Slurm can't be asked how much time is left: {error}");
            return None;
        }
        Err(_) => {
            tracing::warn!("Slurm doesn't say how much time is left");
            return None;
        }
    };
    slurm_seconds(String::from_utf8_lossy(&output.stdout).trim()).map(Duration::from_secs)
}
