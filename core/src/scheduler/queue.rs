//! Who is next.
//!
//! Jobs that can run stand in lanes: of one priority, one owner and one backbone. Within a lane stand groups, of jobs that unblock
//! the same number of others, read the same data set and have one shape, by which is known what memory they take. A worker gets its
//! next job in four steps: the highest priority of which it can take anything; of its lanes, that of the user and then the
//! experiment that have the fewest jobs running; in the lane, the jobs that unblock most; and of their groups one that the worker
//! is warm for, or else the one that the fewest workers are.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::shape::ShapeId;
use crate::id::{ExperimentId, JobId};

/// A name's number.
pub(super) type NameId = u32;

/// Names by number, for names that are compared often.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<String, NameId>,
    names: Vec<String>,
}

impl Names {
    pub(super) fn number(&mut self, name: &str) -> NameId {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as NameId;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// The number of a name that has one.
    pub(super) fn find(&self, name: &str) -> Option<NameId> {
        self.numbers.get(name).copied()
    }

    /// All numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = NameId> {
        0..self.names.len() as NameId
    }

    pub(super) fn name(&self, number: NameId) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }
}

/// What the jobs of a lane have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) priority: Reverse<i32>,
    /// The oldest experiment that wants them.
    pub(super) owner: ExperimentId,
    pub(super) backbone: NameId,
    /// They took workers down before, and get one for themselves.
    pub(super) alone: bool,
}

/// What the jobs of a group have in common: those that unblock most come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    /// How many jobs wait for each.
    pub(super) unblocks: Reverse<u32>,
    /// Backbone and data set.
    pub(super) place: NameId,
    /// Not the memory that they take: that is learned while they wait.
    pub(super) shape: ShapeId,
}

/// Where a waiting job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) lane: LaneKey,
    pub(super) group: GroupKey,
}

type Groups = BTreeMap<GroupKey, BTreeSet<JobId>>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<LaneKey, Groups>,
    /// How many workers are warm for a place.
    warm: HashMap<NameId, u32>,
}

impl Queue {
    pub(super) fn insert(&mut self, spot: Spot, job: JobId) {
        let groups = self.lanes.entry(spot.lane).or_default();
        groups.entry(spot.group).or_default().insert(job);
    }

    pub(super) fn remove(&mut self, spot: Spot, job: JobId) {
        let Some(groups) = self.lanes.get_mut(&spot.lane) else { return };
        if let Some(jobs) = groups.get_mut(&spot.group) {
            jobs.remove(&job);
            if jobs.is_empty() {
                groups.remove(&spot.group);
            }
        }
        if groups.is_empty() {
            self.lanes.remove(&spot.lane);
        }
    }

    pub(super) fn contains(&self, spot: Spot, job: JobId) -> bool {
        self.lanes.get(&spot.lane).and_then(|groups| groups.get(&spot.group)).is_some_and(|jobs| jobs.contains(&job))
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.values().flat_map(Groups::values).map(BTreeSet::len).sum()
    }

    /// The best lane of those for which `share` gives something and which have a group of which `first` gives a job: the
    /// highest priority, then the smallest share, then the job that unblocks most.
    pub(super) fn best_lane<S: Ord>(
        &self,
        share: impl Fn(&LaneKey) -> Option<S>,
        first: impl Fn(&GroupKey, &BTreeSet<JobId>) -> Option<JobId>,
    ) -> Option<LaneKey> {
        let mut best: Option<((S, Reverse<u32>), LaneKey)> = None;
        for (lane, groups) in &self.lanes {
            if best.as_ref().is_some_and(|(_, best)| best.priority != lane.priority) {
                break;
            }
            let rank = share(lane)
                .zip(groups.iter().find(|(group, jobs)| first(group, jobs).is_some()).map(|(group, _)| group.unblocks));
            if let Some(rank) = rank
                && best.as_ref().is_none_or(|(least, _)| rank < *least)
            {
                best = Some((rank, *lane));
            }
        }
        best.map(|(_, lane)| lane)
    }

    /// A lane's next job: one of the `warmest` if it's there, or else the `first` of a group, of one of the `warm` places where a
    /// worker has lately been.
    pub(super) fn next(
        &self,
        lane: &LaneKey,
        first: impl Fn(&GroupKey, &BTreeSet<JobId>) -> Option<JobId>,
        mut warmest: impl Iterator<Item = JobId>,
        warm: &VecDeque<NameId>,
    ) -> Option<JobId> {
        let able = |(group, jobs)| Some((group, jobs, first(group, jobs)?));
        let groups = self.lanes.get(lane)?.iter().filter_map(able);
        let most = groups.clone().next()?.0.unblocks;
        let top = || groups.clone().take_while(|(group, ..)| group.unblocks == most);
        if let Some(job) = warmest.find(|job| top().any(|(_, jobs, _)| jobs.contains(job))) {
            return Some(job);
        }
        // Of one place, the job that came first: shapes have other numbers after a restart.
        let at = |place: NameId| top().filter(move |(group, ..)| group.place == place);
        let lately = warm.iter().find_map(|place| at(*place).map(|(.., job)| job).min());
        let coldest = || {
            let crowd = |place: NameId| self.warm.get(&place).copied().unwrap_or_default();
            top().map(|(group, _, job)| (crowd(group.place), job)).min().map(|(_, job)| job)
        };
        lately.or_else(coldest)
    }

    /// All that wait, in the order of their lanes.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&LaneKey, &GroupKey, &BTreeSet<JobId>)> {
        self.lanes.iter().flat_map(|(lane, groups)| groups.iter().map(move |(group, jobs)| (lane, group, jobs)))
    }

    /// A worker became warm for a place.
    pub(super) fn warmed(&mut self, place: NameId) {
        *self.warm.entry(place).or_default() += 1;
    }

    /// A worker is no longer warm for a place.
    pub(super) fn cooled(&mut self, place: NameId) {
        if let Some(workers) = self.warm.get_mut(&place) {
            *workers = workers.saturating_sub(1);
        }
    }

    /// How many jobs run before this one: of greater priority, and before it in its lane.
    pub(super) fn before(&self, spot: Spot, job: JobId) -> (usize, usize) {
        let all = |groups: &Groups| groups.values().map(BTreeSet::len).sum::<usize>();
        let more_urgent = self.lanes.iter().take_while(|(lane, _)| lane.priority < spot.lane.priority);
        let in_lane = self.lanes.get(&spot.lane).into_iter().flatten().map(|(group, jobs)| {
            match group.unblocks.cmp(&spot.group.unblocks) {
                Ordering::Less => jobs.len(),
                Ordering::Equal if *group == spot.group => jobs.range(..job).count(),
                _ => 0,
            }
        });
        (more_urgent.map(|(_, groups)| all(groups)).sum(), in_lane.sum())
    }
}
