//! Waiting for an experiment's end.
//!
//! The event stream is opened before the experiment is looked at, so that what happens in between is seen: either in the
//! look or in the stream. When the stream breaks (a coordinator that is started again, say), or has a gap because this command
//! was behind what the coordinator keeps, both are done anew.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use promptfield_client::{Client, Message, Patience};
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::scheduler::{Event, EventKind, JobStateName};
use promptfield_core::wire::api::{ExperimentSummary, JobDetail};
use tokio::time::MissedTickBehavior;

use crate::display::Display;
use crate::print;

/// How often the progress of running jobs is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Before who is patient asks again.
const PAUSE: Duration = Duration::from_millis(500);
/// When nothing of an experiment has run for so long, it's said what it waits for.
const QUIET: Duration = Duration::from_secs(5);

/// A client that waits for a coordinator which is away, once it was there: for commands that wait anyway.
pub(crate) fn patient(client: Client) -> Client {
    let patience = Patience { first: PAUSE, longest: PAUSE, most: None, unattended: false };
    client.patient(patience, |error| print::talk(format_args!("{error}; waiting for it, Ctrl-C stops")))
}

/// Waits until nothing more will happen to the experiment by itself, showing how far it is.
pub(crate) async fn until_done(
    client: &Client,
    id: ExperimentId,
    display: &mut Display,
) -> anyhow::Result<ExperimentSummary> {
    let jobs = client.jobs(id, None).await?;
    // What has still to be announced; whatever the stream doesn't tell is announced at the end.
    let mut open: HashSet<JobId> = jobs.into_iter().filter(|job| !job.state.is_final()).map(|job| job.id).collect();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut quiet_since, mut said) = (Instant::now(), None);
    'streams: loop {
        let mut events = client.events().await?;
        loop {
            let experiment = client.experiment(id).await?;
            display.counts(&experiment.counts);
            if experiment.counts.open() == 0 {
                let jobs = client.jobs(id, None).await?;
                jobs.iter()
                    .filter(|job| open.contains(&job.id) && has_ended(job.state))
                    .for_each(|job| display.ended(job));
                return Ok(experiment);
            }
            let waits = experiment.counts.queued > 0 && experiment.counts.running + experiment.counts.leased == 0;
            if !waits {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= QUIET {
                quiet_since = Instant::now();
                if let Some(job) = client.first_job(id, JobStateName::Queued).await? {
                    let because = client.explain(job.id).await?.because;
                    if said.as_ref() != Some(&because) {
                        display.say(&format!("job {}: {} waits: {because}", job.id, job.title));
                        said = Some(because);
                    }
                }
            }
            tokio::select! {
                message = events.next() => {
                    let mut message = message;
                    // Those that came together are followed by one look.
                    loop {
                        let Some(Message { event: None, data, .. }) = &message else { continue 'streams };
                        if let Some(job) = ended_job(data) && open.remove(&job) {
                            let JobDetail { summary, .. } = client.job(job).await?;
                            display.ended(&summary);
                        }
                        if !events.is_ready() {
                            break;
                        }
                        message = events.next().await;
                    }
                }
                _ = looks.tick(), if display.is_live() || waits => {
                    if display.is_live() {
                        display.running(&client.jobs(id, Some(JobStateName::Running)).await?);
                    }
                }
            }
        }
    }
}

fn ended_job(data: &str) -> Option<JobId> {
    // An event of a kind that this version doesn't know ends no job.
    match serde_json::from_str::<Event>(data).ok()?.kind {
        EventKind::JobChanged { job, to, .. } if has_ended(to) => Some(job),
        _ => None,
    }
}

/// Whether a job's end is worth a line: whoever cancels jobs knows.
fn has_ended(state: JobStateName) -> bool {
    state.is_final() && state != JobStateName::Cancelled
}
