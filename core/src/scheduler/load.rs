//! What a worker holds, and what it can take beside that.

use super::shape::{Shape, ShapeId};
use super::{LaneKey, Scheduler, WorkerEntry, WorkerState};
use crate::id::{JobId, WorkerId};
use crate::job::spec::BasisHash;
use crate::method::Method;

impl Scheduler {
    /// Why a worker may take no job of a lane now, whatever memory it needs.
    pub(super) fn obstacle(&self, lane: &LaneKey, worker: &WorkerEntry, load: &Load) -> Option<Obstacle> {
        let labels = self.experiments.get(&lane.owner).map_or(&[][..], |owner| &owner.record.experiment.labels);
        let carried = &worker.record.description.labels;
        if !worker.backbones.contains(&lane.backbone) || labels.iter().any(|label| !carried.contains(label)) {
            Some(Obstacle::Unfit)
        } else if load.suspects > 0 || (lane.alone && load.jobs > 0) {
            Some(Obstacle::Alone)
        } else {
            None
        }
    }

    /// Whether a worker can run a method: this coordinator knows it, and the worker has it by the same declaration. A worker that
    /// says nothing of its methods has all of them.
    pub(super) fn runs(&self, method: Method, worker: &WorkerEntry) -> bool {
        let has = &worker.record.description.methods;
        let declared = self.policy.methods.get(method);
        declared.is_some_and(|declared| has.is_empty() || has.get(&method) == Some(&BasisHash(declared.sha256())))
    }

    /// Whether a worker can run jobs of a shape at all.
    pub(super) fn runs_shape(&self, shape: ShapeId, worker: &WorkerEntry) -> bool {
        let method = self.shapes.get(shape).and_then(Shape::method);
        method.is_none_or(|method| self.runs(method, worker))
    }

    /// Whether a job of a shape fits beside what a worker holds.
    pub(super) fn fits(&self, shape: ShapeId, load: &Load, worker: &WorkerEntry) -> bool {
        let has_room = self.shapes.get(shape).is_none_or(|shape| load.shortage(shape, worker).is_none());
        has_room && self.runs_shape(shape, worker)
    }

    /// The workers that take jobs and could run those of a lane and a shape, now or when they have room.
    pub(super) fn able(&self, lane: &LaneKey, shape: ShapeId) -> impl Iterator<Item = &WorkerEntry> {
        let active = self.workers.values().filter(|worker| worker.record.state == WorkerState::Active);
        active.filter(move |worker| {
            self.obstacle(lane, worker, &Load::default()) != Some(Obstacle::Unfit) && self.runs_shape(shape, worker)
        })
    }

    /// What a worker has in its hands.
    pub(super) fn load(&self, worker: WorkerId) -> Load {
        let mut load = Load::default();
        for job in self.workers.get(&worker).into_iter().flat_map(|entry| &entry.held) {
            load.add(self, *job);
        }
        load
    }
}

/// What a worker has in its hands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) jobs: usize,
    memory_mib: u64,
    /// So many jobs at once are the most that one of them bears.
    together: Option<u32>,
    suspects: usize,
}

impl Load {
    pub(super) fn add(&mut self, scheduler: &Scheduler, job: JobId) {
        let Some(record) = scheduler.job(job) else { return };
        self.jobs += 1;
        if let Some(shape) = scheduler.shape_of(record) {
            self.memory_mib += u64::from(shape.memory_mib());
            self.together = self.together.into_iter().chain(shape.need().together).min();
        }
        self.suspects += usize::from(scheduler.is_suspect(record));
    }

    /// What a job of a shape lacks beside what its worker holds. An idle worker takes any job: an estimate may be wrong, and
    /// waiting doesn't make the worker larger.
    pub(super) fn shortage(&self, shape: &Shape, worker: &WorkerEntry) -> Option<Shortage> {
        let jobs = self.jobs as u64 + 1;
        let needed = self.memory_mib + u64::from(shape.memory_mib());
        if self.jobs == 0 {
            None
        } else if self.together.into_iter().chain(shape.need().together).any(|most| jobs > u64::from(most)) {
            Some(Shortage::Slots)
        } else if worker.record.description.memory_mib.is_some_and(|memory| needed > memory) {
            Some(Shortage::Memory)
        } else {
            None
        }
    }
}

/// What a worker hasn't left for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// As much memory as the job takes.
    Memory,
    /// A place among the few jobs that may run at once since one ran out of memory.
    Slots,
}

/// What keeps a worker from the jobs of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It hasn't the weights, or doesn't carry a label.
    Unfit,
    /// One of the jobs, these or one that it holds, has taken workers along, and runs alone.
    Alone,
}
