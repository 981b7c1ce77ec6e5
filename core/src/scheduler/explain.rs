//! Why a job waits, or why it failed.

use serde::{Deserialize, Serialize};

use super::{JobState, JobStateName, Rejection, Scheduler, WorkerState};
use crate::id::JobId;
use crate::time::Timestamp;

/// An answer for a person, with the state it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Its state.
    pub state: JobStateName,
    /// One sentence with the numbers.
    pub because: String,
}

impl Scheduler {
    /// Says why a job is where it is.
    pub fn explain(&self, id: JobId, now: Timestamp) -> Result<Explanation, Rejection> {
        let record = self.job(id).ok_or(Rejection::NoJob(id))?;
        let because = match &record.state {
            JobState::Blocked => record.needs.and_then(|needs| self.job(needs)).map_or_else(
                || "it needs a training job that isn't there".to_owned(),
                |needs| format!("it needs the checkpoint of job {}, which is {}", needs.id, needs.state.name()),
            ),
            JobState::Queued { not_before } if *not_before > now => {
                let seconds = not_before.since(now) as f64 / 1000.0;
                format!(
                    "its attempt {} failed, and the next one begins in {seconds:.1} s at the earliest",
                    record.failures
                )
            }
            JobState::Queued { .. } => self.explain_queued(id),
            JobState::Leased(lease) | JobState::Running(lease) => {
                let progress = lease.progress;
                format!("worker {} has it, at step {} of {}", lease.worker, progress.step, progress.steps)
            }
            JobState::Completed(result) => {
                format!("it has a result: {:.2} % of {} images", result.accuracy, result.total)
            }
            JobState::Skipped(result) => {
                format!("its output folder was already complete: {:.2} % of {} images", result.accuracy, result.total)
            }
            JobState::Failed(failure) => failure.reason.clone(),
            JobState::Cancelled => "someone cancelled it".to_owned(),
        };
        Ok(Explanation { job: id, state: record.state.name(), because })
    }

    fn explain_queued(&self, id: JobId) -> String {
        let backbone = self.job(id).map_or("", |record| record.spec.backbone.as_str());
        let active = || self.workers.values().filter(|worker| worker.record.state == WorkerState::Active);
        let able = active().filter(|worker| worker.record.description.backbones.iter().any(|name| name == backbone));
        let (able, slots) = able.fold((0, 0), |(n, slots), worker| (n + 1, slots + worker.record.description.slots));
        if able == 0 {
            return match active().count() {
                0 => "no worker is connected".to_owned(),
                n => format!("none of the {n} connected workers has the backbone `{backbone}`"),
            };
        }
        let before = self.ready.iter().position(|(.., job)| *job == id).unwrap_or_default();
        format!("{before} jobs stand before it, for {slots} slots of {able} workers")
    }
}
