//! Workers that wait for a job.
//!
//! When a job becomes ready, they aren't all asked: once one that holds nothing gets nothing, no other of its kind is asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use promptfield_core::id::WorkerId;
use promptfield_core::scheduler::WorkerKind;
use tokio::time::Instant;

use super::Poll;

/// Where a poll stands: those that end first come first.
pub(super) type Place = (Instant, u64);

/// The polls that wait.
#[derive(Debug, Default)]
pub(super) struct Parking {
    polls: BTreeMap<Place, (WorkerKind, Poll)>,
    kinds: HashMap<WorkerKind, usize>,
    next: u64,
}

impl Parking {
    pub(super) fn len(&self) -> usize {
        self.polls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.polls.is_empty()
    }

    /// When the first of them has waited long enough.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.polls.first_key_value().map(|((until, _), _)| *until)
    }

    pub(super) fn park(&mut self, kind: WorkerKind, poll: Poll) {
        *self.kinds.entry(kind).or_default() += 1;
        self.polls.insert((poll.until, self.next), (kind, poll));
        self.next += 1;
    }

    /// Finds out anew of what kinds they are: the pin of a backbone, or what is known of a worker's weights, changed.
    pub(super) fn sort(&mut self, kind_of: impl Fn(WorkerId) -> Option<WorkerKind>) {
        self.kinds.clear();
        for (kind, poll) in self.polls.values_mut() {
            *kind = kind_of(poll.worker).unwrap_or(*kind);
            *self.kinds.entry(*kind).or_default() += 1;
        }
    }

    /// The first poll after a place, of a kind for which nothing was in vain yet.
    pub(super) fn after(
        &self,
        place: Option<Place>,
        in_vain: &HashSet<WorkerKind>,
    ) -> Option<(Place, WorkerKind, &Poll)> {
        if self.kinds.keys().all(|kind| in_vain.contains(kind)) {
            return None;
        }
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.polls.range((from, Bound::Unbounded));
        let found = rest.find(|(_, (kind, _))| !in_vain.contains(kind));
        found.map(|(place, (kind, poll))| (*place, *kind, poll))
    }

    pub(super) fn take(&mut self, place: Place) -> Option<Poll> {
        let (kind, poll) = self.polls.remove(&place)?;
        if let Some(count) = self.kinds.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&kind);
            }
        }
        Some(poll)
    }

    /// Takes those of some workers.
    pub(super) fn take_of(&mut self, workers: &HashSet<WorkerId>) -> Vec<Poll> {
        if workers.is_empty() {
            return Vec::new();
        }
        let theirs =
            |(place, (_, poll)): (&Place, &(WorkerKind, Poll))| workers.contains(&poll.worker).then_some(*place);
        let places: Vec<Place> = self.polls.iter().filter_map(theirs).collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// Takes one that has waited until `now`; any, when all must go.
    pub(super) fn take_ended(&mut self, now: Instant, all: bool) -> Option<Poll> {
        let (place, _) = self.polls.first_key_value().filter(|((until, _), _)| all || *until <= now)?;
        self.take(*place)
    }
}
