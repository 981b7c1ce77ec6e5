//! Which jobs are slow, and get a second attempt beside the first.
//!
//! Off unless [`super::Policy::speculation`] says so. Jobs are held against their like: those of the same recipe, stage and number
//! of shots, which differ by their seed. An attempt that has taken much longer than the median of its like is slow: its machine may
//! be ailing. A worker for which nothing waits then begins the job anew; whoever ends first brings the result, and the other is told
//! so. A job has two attempts at most, and each attempt gets one beside it once.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::load::Load;
use super::{Alarm, JobRecord, Lease, Scheduler};
use crate::id::{JobId, LeaseId, RecipeId, WorkerId};
use crate::input::InvalidInput;
use crate::protocol::Stage;
use crate::time::Timestamp;

/// What a slow job is. Its like have the same recipe, stage and number of shots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speculation {
    /// It takes so many times as long as the median of its like.
    pub times: f64,
    /// So many of its like must have ended in this run of the coordinator.
    pub after: usize,
}

impl Speculation {
    /// A job is slow when it takes `times` as long as the median of at least three of its like. Refuses, by the name of the
    /// setting, what is less than 1.5 times, or no number.
    pub fn new(times: f64) -> Result<Self, InvalidInput> {
        if times >= 1.5 && times.is_finite() {
            Ok(Self { times, after: 3 })
        } else {
            Err(InvalidInput::new("coordinator.speculation", times, "a number of at least 1.5"))
        }
    }
}

/// How many durations of a kind are remembered.
const REMEMBERED: usize = 31;

/// What jobs that take equally long have in common.
type Kind = (RecipeId, Stage, u32);

/// How long jobs take, and which take too long.
#[derive(Debug, Default)]
pub(super) struct Paces {
    kinds: HashMap<Kind, Pace>,
    /// Jobs with one attempt, which is slow.
    slow: BTreeSet<JobId>,
}

#[derive(Debug, Default)]
struct Pace {
    /// The last durations, in milliseconds.
    took: VecDeque<i64>,
    /// Jobs that workers have.
    held: BTreeSet<JobId>,
}

impl Pace {
    /// The median duration in milliseconds, of at least `after` jobs.
    fn median(&self, after: usize) -> Option<i64> {
        if self.took.len() < after {
            return None;
        }
        let mut took: Vec<i64> = self.took.iter().copied().collect();
        let middle = took.len() / 2;
        took.get_mut(middle)?;
        Some(*took.select_nth_unstable(middle).1)
    }
}

const fn kind(record: &JobRecord) -> Kind {
    (record.recipe, record.spec.stage, record.spec.shots)
}

impl Scheduler {
    /// Notes that a worker has taken a job, or that none has it any more.
    pub(super) fn note_pace(&mut self, id: JobId) {
        if self.policy.speculation.is_none() {
            return;
        }
        let Some(record) = self.jobs.get(id).map(|entry| &entry.record) else { return };
        let pace = self.paces.kinds.entry(kind(record)).or_default();
        if record.state.name().is_held() {
            pace.held.insert(id);
            self.watch(id);
        } else {
            pace.held.remove(&id);
            self.paces.slow.remove(&id);
        }
    }

    /// Notes how long a job took that has just ended well.
    pub(super) fn note_duration(&mut self, id: JobId, since: Timestamp, now: Timestamp) {
        let Some(speculation) = self.policy.speculation else { return };
        let Some(record) = self.jobs.get(id).map(|entry| &entry.record) else { return };
        let pace = self.paces.kinds.entry(kind(record)).or_default();
        if pace.took.len() >= REMEMBERED {
            pace.took.pop_front();
        }
        pace.took.push_back(now.since(since).max(0));
        // From now on there is something to hold the others against.
        if pace.took.len() == speculation.after.max(1) {
            for job in pace.held.clone() {
                self.watch(job);
            }
        }
    }

    /// Looks at a job again when it would be slow.
    fn watch(&mut self, id: JobId) {
        if let Some((lease, at)) = self.slow_from(id) {
            self.alarms.insert((at, Alarm::Slow(id, lease)));
        }
    }

    /// When a job's only attempt is slow, as far as can be told now.
    fn slow_from(&self, id: JobId) -> Option<(LeaseId, Timestamp)> {
        let speculation = self.policy.speculation?;
        let record = self.job(id)?;
        let lease = record.state.lease().filter(|lease| lease.beside.is_none())?;
        let median = self.paces.kinds.get(&kind(record))?.median(speculation.after.max(1))?;
        // No sooner than a lease lasts: what is quick isn't worth it.
        let slow = (median as f64 * speculation.times.max(1.0)) as i64;
        Some((lease.id, lease.since.plus(slow.max(self.policy.lease_ms))))
    }

    /// An attempt may have become slow.
    pub(super) fn check_pace(&mut self, id: JobId, lease: LeaseId, now: Timestamp) {
        match self.slow_from(id) {
            Some((found, at)) if found == lease && at <= now => {
                self.paces.slow.insert(id);
            }
            Some((found, _)) if found == lease => self.watch(id),
            _ => {}
        }
    }

    /// A slow job that an idle worker can begin beside the worker that has it.
    pub(super) fn next_slow(&self, worker: WorkerId, load: &Load, now: Timestamp) -> Option<JobId> {
        let entry = self.workers.get(&worker)?;
        self.paces.slow.iter().copied().find(|job| {
            let fits = self.spot(*job).is_some_and(|spot| {
                self.obstacle(&spot.lane, entry, load).is_none() && self.fits(spot.group.shape, load, entry)
            });
            let theirs =
                self.job(*job).and_then(|record| record.state.lease()).is_some_and(|lease| lease.worker != worker);
            // What takes workers down isn't given to two.
            let may = |record: &JobRecord| {
                record.losses == 0 && self.in_time(record, entry, now) && self.bar(entry, record, now).is_none()
            };
            fits && theirs && self.job(*job).is_some_and(may)
        })
    }

    /// Notes that a slow job has a second attempt, and says why.
    pub(super) fn note_beside(&mut self, id: JobId, slow: &Lease, now: Timestamp) -> String {
        self.paces.slow.remove(&id);
        let seconds = |milliseconds: i64| milliseconds / 1000;
        let median = self.job(id).and_then(|record| self.paces.kinds.get(&kind(record))?.median(1)).unwrap_or_default();
        format!(
            "worker {} has had it for {} s, where its like take {} s, and another begins it anew",
            slow.worker,
            seconds(now.since(slow.since)),
            seconds(median)
        )
    }
}
