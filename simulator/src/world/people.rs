//! People submit, cancel and retry, and drain workers.

use promptfield_core::id::{ExperimentId, JobId, WorkerId};

use super::{Event, Size, World};
use crate::climate::wait;
use crate::wire::{Ask, Caller};

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
        match self.random.below(10) {
            0 => self.asks(Ask::Submit(plan)),
            1 => {
                self.asks(Ask::Submit(plan));
                self.asks(Ask::Submit(plan));
            }
            2 | 3 => self.asks(Ask::CancelJob(job)),
            4 => self.asks(Ask::CancelExperiment(experiment)),
            5 | 6 => self.asks(Ask::RetryJob(job)),
            7 | 8 => self.asks(Ask::RetryExperiment(experiment)),
            _ => self.asks(Ask::Drain(worker)),
        }
        self.next_whim();
    }
}
