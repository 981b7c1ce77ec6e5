//! Why a job waits, or why it failed.

use serde::{Deserialize, Serialize};

use super::lease::{Load, Obstacle};
use super::{JobState, JobStateName, Lease, Rejection, Scheduler, WorkerEntry, WorkerState};
use crate::id::JobId;
use crate::time::Timestamp;
use crate::trainer_wire::Progress;

/// An answer for a person, with the state it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
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
                let has = |lease: &Lease| {
                    let Progress { step, steps, .. } = lease.progress;
                    format!("worker {} has it, at step {step} of {steps}", lease.worker)
                };
                match lease.beside.as_deref() {
                    None => has(lease),
                    Some(slow) => format!("{}; {}, and is slow", has(lease), has(slow)),
                }
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
        let (Some(spot), Some(record)) = (self.spot(id), self.job(id)) else { return String::new() };
        let lane = &spot.lane;
        if let Some(owner) = self.experiments.get(&lane.owner).filter(|owner| !owner.has_room()) {
            let running = owner.counts.held();
            return format!("its experiment {} runs {running} jobs, as many as its `max_running` allows", lane.owner);
        }
        let active: Vec<&WorkerEntry> =
            self.workers.values().filter(|worker| worker.record.state == WorkerState::Active).collect();
        if active.is_empty() {
            return "no worker is connected".to_owned();
        }
        let loads: Vec<Load> = active.iter().map(|worker| self.load(worker.record.id)).collect();
        let able: Vec<(&WorkerEntry, &Load, Option<Obstacle>)> = active
            .iter()
            .zip(&loads)
            .map(|(worker, load)| (*worker, load, self.obstacle(lane, worker, load)))
            .filter(|(.., obstacle)| *obstacle != Some(Obstacle::Unfit))
            .collect();
        let fit = able.len();
        if fit == 0 {
            let labels = self.experiments.get(&lane.owner).map_or(&[][..], |owner| &owner.record.experiment.labels);
            let backbone = format!("the backbone `{}`", self.names.name(lane.backbone));
            let asked = labels.iter().map(|label| format!("the label `{label}`"));
            let asked = std::iter::once(backbone).chain(asked).collect::<Vec<_>>().join(" and ");
            return format!("none of the {} connected workers has {asked}", active.len());
        }
        if lane.alone && able.iter().all(|(.., obstacle)| obstacle.is_some()) {
            let losses = record.losses;
            return format!(
                "it has taken {losses} workers along and gets the next one for itself, but none of the {fit} that could run it is idle"
            );
        }
        let needed = spot.group.memory_mib;
        if !able.iter().any(|(worker, load, _)| load.leaves_room(needed, worker)) {
            return format!(
                "it needs about {needed} MiB, and none of the {fit} workers that could run it has so much free"
            );
        }
        let slots: usize = able.iter().map(|(worker, ..)| worker.record.description.slots).sum();
        let (more_urgent, in_lane) = self.queue.before(spot, id);
        format!(
            "{} jobs stand before it ({more_urgent} of greater priority, {in_lane} of its own experiment), for {slots} slots of \
             {fit} workers",
            more_urgent + in_lane
        )
    }
}
