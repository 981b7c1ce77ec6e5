//! Why a job waits, or why it failed.

use serde::{Deserialize, Serialize};

use super::load::{Load, Obstacle, Shortage};
use super::shape::{Need, Shape};
use super::{JobState, JobStateName, Rejection, Scheduler, WorkerEntry, WorkerState};
use crate::id::JobId;
use crate::job::outcome::Progress;
use crate::scheduler::pilot_records::PoolState;
use crate::time::Timestamp;

/// What works says so more often than this, in seconds.
pub const SILENT_S: u32 = 60;

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
                let why = match self.holder(id) {
                    Some(holder) => format!("{} works in its output folder", holder.words),
                    None if record.failures == 0 => "its worker was lost".to_owned(),
                    None => format!("its attempt {} failed", record.failures),
                };
                format!("{why}, and the next one begins in {seconds:.1} s at the earliest")
            }
            JobState::Queued { .. } => self.explain_queued(id, now),
            JobState::Leased(lease) | JobState::Running(lease) => {
                let Progress { step, steps, silent_s, .. } = lease.progress;
                let silent = if silent_s < SILENT_S {
                    String::new()
                } else {
                    format!("; its trainer has been silent for {silent_s} s")
                };
                format!("worker {} has it, at step {step} of {steps}{silent}", lease.worker)
            }
            JobState::Completed(result) | JobState::Skipped(result) => {
                let how = match &record.state {
                    JobState::Completed(_) => "it has a result",
                    _ if self.is_foreign(id) => "its output folder was already complete, by another tool",
                    _ => "its output folder was already complete",
                };
                let stale = self.why_stale(id).map_or_else(String::new, |stale| {
                    format!("; it is stale: {}; `promptfield rerun --job {id}` computes it again", stale.because)
                });
                let numbers =
                    result.as_ref().map(|result| format!(": {:.2} % of {} images", result.accuracy, result.total));
                format!("{how}{}{stale}", numbers.unwrap_or_default())
            }
            JobState::Failed(failure) => failure.reason.clone(),
            JobState::Cancelled => "someone cancelled it".to_owned(),
        };
        Ok(Explanation { job: id, state: record.state.name(), because })
    }

    fn explain_queued(&self, id: JobId, now: Timestamp) -> String {
        let (Some(spot), Some(record)) = (self.spot(id), self.job(id)) else { return String::new() };
        let lane = &spot.lane;
        if let Some(owner) = self.experiments.get(&lane.owner).filter(|owner| !owner.has_room()) {
            let running = owner.counts.held();
            return format!("its experiment {} runs {running} jobs, as many as its `max_running` allows", lane.owner);
        }
        if self.policy.methods.get(record.spec.recipe.method).is_none() {
            return format!(
                "this coordinator doesn't know its method `{}`: put the method's declaration into the folder that `paths.methods` names",
                record.spec.recipe.method
            );
        }
        let active: Vec<&WorkerEntry> =
            self.workers.values().filter(|worker| worker.record.state == WorkerState::Active).collect();
        if active.is_empty() {
            return format!("no worker is connected{}", self.explain_pools());
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
            let pools = self.explain_pools();
            let backbone = &record.spec.recipe.backbone;
            let pins = &self.today.pins;
            let others = active.iter().filter_map(|worker| {
                let has = worker.other_backbone(backbone, pins)?;
                Some(format!("worker `{}` has {}", worker.record.description.name, has.short()))
            });
            let others: Vec<String> = others.collect();
            if let Some(pinned) = pins.get(backbone).filter(|_| !others.is_empty()) {
                return format!(
                    "its results rest on the backbone `{backbone}` as {}, and none of the {} connected workers has that: {}{pools}",
                    pinned.short(),
                    active.len(),
                    others.join(", ")
                );
            }
            return format!("none of the {} connected workers has {asked}{pools}", active.len());
        }
        let method = record.spec.recipe.method;
        let able: Vec<_> = able.into_iter().filter(|(worker, ..)| self.runs(method, worker)).collect();
        if able.is_empty() {
            return format!(
                "none of the {fit} workers that have its backbone can run the method `{method}`{}",
                self.explain_pools()
            );
        }
        let fit = able.len();
        let barred = self.explain_faults(lane, spot.group.shape, record, now);
        if let Some(faults) = &barred
            && able.iter().all(|(worker, ..)| self.bar(worker, record, now).is_some())
        {
            let pools = self.explain_pools();
            return format!("none of the {fit} workers that could run it may take it now: {faults}{pools}");
        }
        if lane.alone && able.iter().all(|(.., obstacle)| obstacle.is_some()) {
            let losses = record.losses;
            return format!(
                "it has taken {losses} workers along and gets the next one for itself, but none of the {fit} that could run it is idle"
            );
        }
        if let Some(shape) = self.shapes.get(spot.group.shape) {
            let short: Vec<Shortage> =
                able.iter().map_while(|(worker, load, _)| load.shortage(shape, worker)).collect();
            if short.len() == fit {
                return explain_shortage(shape, short.contains(&Shortage::Memory), fit);
            }
        }
        let slots: usize = able.iter().map(|(worker, ..)| worker.record.description.slots).sum();
        let (more_urgent, in_lane) = self.queue.before(spot, id);
        format!(
            "{} jobs stand before it ({more_urgent} of greater priority, {in_lane} of its own experiment), for {slots} slots of \
             {fit} workers{}",
            more_urgent + in_lane,
            barred.map(|faults| format!("; of these, {faults}")).unwrap_or_default()
        )
    }
}

impl Scheduler {
    /// What there is to say of workers that may come, as the end of a sentence.
    fn explain_pools(&self) -> String {
        let pools = self.fleet.pools.values().filter_map(|pool| {
            let record = &pool.record;
            let waiting = self.fleet.of(&record.name).find(|pilot| pilot.record.worker.is_none());
            Some(match (record.state, waiting) {
                (PoolState::Off | PoolState::Ending, _) => return None,
                (PoolState::Paused, _) => format!("`{}` is paused", record.name),
                (PoolState::Active, Some(pilot)) => {
                    let detail = pilot.record.detail.as_deref().map(|words| format!(": {words}"));
                    let count = self.fleet.of(&record.name).filter(|pilot| pilot.record.worker.is_none()).count();
                    format!("{count} pilots of `{}` are on their way{}", record.name, detail.unwrap_or_default())
                }
                (PoolState::Active, None) => {
                    let reason = record.reason.as_deref().map(|words| format!(": {words}"));
                    format!("`{}` has asked for none yet{}", record.name, reason.unwrap_or_default())
                }
            })
        });
        let pools: Vec<String> = pools.collect();
        if pools.is_empty() { String::new() } else { format!("; of the pools, {}", pools.join(", ")) }
    }
}

/// Why a job fits on none of the `fit` workers that could run it: for some of them because of its memory, or for none.
fn explain_shortage(shape: &Shape, of_memory: bool, fit: usize) -> String {
    let (needed, Need { memory_mib, together }) = (shape.memory_mib(), shape.need());
    if of_memory {
        let measured = memory_mib.map(|most| format!(", since one of its shape took {most}")).unwrap_or_default();
        return format!(
            "it needs about {needed} MiB{measured}, and none of the {fit} workers that could run it has so much free"
        );
    }
    match together {
        Some(most) => format!(
            "a worker runs {most} jobs of its shape at once at most, other jobs among them, since one ran out of memory, and \
             none of the {fit} workers that could run it has so few"
        ),
        None => format!(
            "each of the {fit} workers that could run it has a job of a shape that ran out of memory beside others, and runs as \
             many at once as that allows"
        ),
    }
}
