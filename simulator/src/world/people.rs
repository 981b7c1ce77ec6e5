//! People submit, cancel, retry, have things computed again and drain workers; and they change data sets, look at them and pin
//! weights.

use promptfield_core::id::{ExperimentId, JobId, WorkerId};

use promptfield_core::scheduler::RerunWhich;

use super::{Event, Line, Size, World};
use crate::climate::wait;
use crate::plans::BACKBONES;
use crate::wire::{Ask, Caller, Lists};

/// What people have under way.
#[derive(Debug, Default)]
pub(super) struct People {
    /// Calls without an answer.
    pub(super) waiting: usize,
}

impl World {
    /// Submits the plans; in a small world some of them are left to people's whims.
    pub(super) fn submit_first(&mut self) {
        let first = if self.settings.size == Size::Small { 2 } else { self.plans.len() };
        for plan in 0..first {
            self.asks(Ask::Submit(plan));
        }
    }

    fn asks(&mut self, ask: Ask) {
        self.people.waiting += 1;
        self.call(Caller::Person, ask);
    }

    pub(super) fn next_whim(&mut self) {
        let delay = wait(&mut self.random, self.climate.between_whims);
        self.plan(delay, Event::Whim);
    }

    /// Somebody wants something; also of jobs that don't exist.
    pub(super) fn whim(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        let job = JobId(1 + self.random.place(self.audit.jobs() + 1) as u64);
        let experiment = ExperimentId(1 + self.random.place(self.audit.experiments() + 1) as u64);
        let worker = WorkerId(1 + self.random.place(self.audit.workers() + 1) as u64);
        let plan = self.random.place(self.plans.len());
        // In a large world nobody says what results rest on.
        let small = self.settings.size == Size::Small;
        match self.random.below(if small { 19 } else { 11 }) {
            0 => self.asks(Ask::Submit(plan)),
            1 => {
                self.asks(Ask::Submit(plan));
                self.asks(Ask::Submit(plan));
            }
            2 | 3 => self.asks(Ask::CancelJob(job)),
            4 => self.asks(Ask::CancelExperiment(experiment)),
            5 | 6 => self.asks(Ask::RetryJob(job)),
            7 | 8 => self.asks(Ask::RetryExperiment(experiment)),
            9 => self.asks(Ask::Drain(worker)),
            10 | 11 => {
                let job = if self.random.chance(800) { self.audit.done_from(job) } else { job };
                let shared = self.random.chance(600);
                self.asks(Ask::RerunJob { job, shared });
            }
            12 | 13 => {
                let which = if self.random.chance(700) { RerunWhich::Stale } else { RerunWhich::All };
                let shared = self.random.chance(600);
                self.asks(Ask::RerunExperiment { experiment, which, shared });
            }
            14 | 15 => {
                let job = if self.random.chance(800) { self.audit.done_from(job) } else { job };
                let lists = self.data[self.random.place(self.data.len())];
                self.asks(Ask::Look { job, lists });
            }
            16 => self.change_data(),
            17 => {
                let place = self.random.place(self.workers.len());
                self.asks(Ask::Recheck(place));
            }
            _ => {
                let worker = self.random.place(self.workers.len());
                self.pin_as(worker);
            }
        }
        self.next_whim();
    }

    /// A data set's lists change on the disk, perhaps to what they were before.
    fn change_data(&mut self) {
        let dataset = self.random.place(self.data.len());
        let (train, test) = (1 + self.random.below(2) as u8, 1 + self.random.below(2) as u8);
        self.data[dataset] = Lists::of(train, test);
        self.history.note(self.now, Line::DataChanges { dataset, lists: self.data[dataset] });
    }

    /// Somebody decides that a worker's weights are the right ones.
    pub(super) fn pin_as(&mut self, worker: usize) {
        for backbone in 0..BACKBONES.len() {
            if let Some(weights) = self.workers[worker].weights(backbone) {
                self.asks(Ask::Pin { backbone, weights });
            }
        }
    }
}
