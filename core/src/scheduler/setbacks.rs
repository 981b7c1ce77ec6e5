//! Attempts that were broken off by what isn't their job's fault: their worker was lost, or somebody else had their folder.

use super::{AttemptEnd, Change, JobState, Scheduler};
use crate::id::{JobId, LeaseId};
use crate::job::outcome::Failure;
use crate::time::{Timestamp, doubling_ms};

/// The wait for a folder that somebody else has, the first time, in milliseconds; it doubles with each further one.
const FIRST_WAIT_MS: i64 = 5_000;
/// The longest wait, in milliseconds.
const LONGEST_WAIT_MS: i64 = 5 * 60 * 1000;

/// What is known of an open job's attempts that were broken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setback {
    /// The most epochs that an attempt had completed when its worker was lost.
    pub epochs: u32,
    /// Whether the latest loss of a worker was counted as a failure.
    pub counted: bool,
    /// How often in a row somebody else had the job's folder.
    pub waits: u32,
    /// Who that was, the last time.
    pub holder: Option<Holder>,
}

/// Who works in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// In words: a process and its host.
    pub words: String,
    /// The host, where it is known.
    pub host: Option<String>,
}

impl Scheduler {
    /// An attempt ends with its worker. It doesn't count as a failure if it had completed an epoch that none before it had: a long
    /// training on machines that come and go gets on, and is never given up.
    pub(super) fn lose(&mut self, job: JobId, lease: LeaseId, end: AttemptEnd, failure: Failure, now: Timestamp) {
        let completed = self.lease_of(job, |own| own.id == lease).map_or(0, |own| own.progress.epoch);
        self.end_attempt(lease, end, Some(failure.clone()), now);
        let known = self.setbacks.get(&job).cloned().unwrap_or_default();
        let counted = completed <= known.epochs;
        let next = Setback { epochs: known.epochs.max(completed), counted, ..known.clone() };
        if next != known {
            self.set_setback(job, next);
        }
        self.try_again(job, failure, counted, now);
    }

    /// Somebody else works in a job's folder: nobody waits for that, and the job is tried again a little later.
    pub(super) fn wait_for_folder(
        &mut self,
        job: JobId,
        lease: LeaseId,
        (words, host): (&str, Option<&str>),
        reason: &str,
        now: Timestamp,
    ) {
        self.end_attempt(lease, AttemptEnd::Released, None, now);
        self.forget_attempt(job);
        let known = self.setbacks.get(&job).cloned().unwrap_or_default();
        let waits = known.waits.saturating_add(1);
        let wait = doubling_ms(FIRST_WAIT_MS, waits, LONGEST_WAIT_MS);
        let holder = Some(Holder { words: words.to_owned(), host: host.map(str::to_owned) });
        self.set_setback(job, Setback { waits, holder, ..known });
        self.set_state(job, JobState::Queued { not_before: now.plus(wait) }, Some(reason.to_owned()), now);
    }

    /// Waiting jobs whose folders are in the hands of a process on a host.
    pub(super) fn folders_at(&self, host: &str) -> impl Iterator<Item = JobId> {
        let there = move |setback: &Setback| setback.holder.as_ref().is_some_and(|it| it.host.as_deref() == Some(host));
        self.setbacks.iter().filter(move |(_, setback)| there(setback)).map(|(job, _)| *job)
    }

    /// Who has a job's folder, as far as was heard last.
    pub(super) fn holder(&self, job: JobId) -> Option<&Holder> {
        self.setbacks.get(&job)?.holder.as_ref()
    }

    /// A job has come to its end.
    pub(super) fn forget_setbacks(&mut self, job: JobId) {
        if self.setbacks.remove(&job).is_some() {
            self.changes.push(Change::SetbackChanged { job, setback: None });
        }
    }

    fn set_setback(&mut self, job: JobId, setback: Setback) {
        self.changes.push(Change::SetbackChanged { job, setback: Some(setback.clone()) });
        self.setbacks.insert(job, setback);
    }
}
