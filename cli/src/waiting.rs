//! Waiting for an experiment's end.
//!
//! The event stream is opened before the experiment is looked at, so that what happens in between is seen: either in the
//! look or in the stream. When the stream breaks (a coordinator that is started again, say), both are done anew.

use std::collections::HashSet;
use std::time::Duration;

use promptfield_core::api::{ExperimentSummary, JobDetail};
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::scheduler::{Event, EventKind, JobStateName};
use reqwest::Response;
use tokio::time::MissedTickBehavior;

use crate::client::Client;
use crate::display::Display;

/// How often the progress of running jobs is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until nothing more will happen to the experiment by itself, showing how far it is.
pub(crate) async fn until_done(
    client: &Client,
    id: ExperimentId,
    display: &mut Display,
) -> anyhow::Result<ExperimentSummary> {
    let jobs = client.jobs(id, "").await?;
    // What has still to be announced; whatever the stream doesn't tell is announced at the end.
    let mut open: HashSet<JobId> = jobs.into_iter().filter(|job| !job.state.is_final()).map(|job| job.id).collect();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let mut events = EventStream::new(client.events().await?);
        loop {
            let experiment = client.experiment(id).await?;
            display.counts(&experiment.counts);
            if experiment.counts.open() == 0 {
                let jobs = client.jobs(id, "").await?;
                jobs.iter()
                    .filter(|job| open.contains(&job.id) && has_ended(job.state))
                    .for_each(|job| display.ended(job));
                return Ok(experiment);
            }
            tokio::select! {
                batch = events.next() => {
                    let Some(batch) = batch else { break };
                    for job in batch.iter().filter_map(ended_job) {
                        if open.remove(&job) {
                            let JobDetail { summary, .. } = client.job(job).await?;
                            display.ended(&summary);
                        }
                    }
                }
                _ = looks.tick(), if display.is_live() => {
                    display.running(&client.jobs(id, "state=running").await?);
                }
            }
        }
    }
}

fn ended_job(event: &Event) -> Option<JobId> {
    match &event.kind {
        EventKind::JobChanged { job, to, .. } if has_ended(*to) => Some(*job),
        _ => None,
    }
}

/// Whether a job's end is worth a line: whoever cancels jobs knows.
fn has_ended(state: JobStateName) -> bool {
    state.is_final() && state != JobStateName::Cancelled
}

/// Server-sent events, as far as the coordinator sends them: `data:` lines with one JSON event each.
struct EventStream {
    response: Response,
    rest: Vec<u8>,
}

impl EventStream {
    const fn new(response: Response) -> Self {
        Self { response, rest: Vec::new() }
    }

    /// The events of the next piece that arrives; `None` when the stream is over.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let chunk = self.response.chunk().await.ok()??;
        self.rest.extend_from_slice(&chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Some(Vec::new()) };
        let complete: Vec<u8> = self.rest.drain(..=end).collect();
        let text = String::from_utf8_lossy(&complete);
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        Some(data.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect())
    }
}
