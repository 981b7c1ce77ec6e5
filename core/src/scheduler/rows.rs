//! What the changes leave in a database.

use std::sync::Arc;

use super::{Attempt, Change, ExperimentRecord, Held, JobRecord, Link, WorkerRecord};
use crate::id::{JobId, LeaseId, RecipeId, Sequence};
use crate::spec::Recipe;

/// Everything that the changes of earlier runs left behind and a scheduler needs to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The experiments, by identifier.
    pub experiments: Vec<ExperimentRecord>,
    /// The recipes, by identifier.
    pub recipes: Vec<(RecipeId, Arc<Recipe>)>,
    /// The jobs, by identifier, without gaps from 1 on.
    pub jobs: Vec<JobRecord>,
    /// Which jobs the experiments have, in the order in which they were linked.
    pub links: Vec<Link>,
    /// The workers, by identifier.
    pub workers: Vec<WorkerRecord>,
    /// The greatest lease that was granted.
    pub last_lease: LeaseId,
    /// The greatest sequence number of the event log.
    pub last_sequence: Sequence,
}

impl Rows {
    /// Does what the coordinator's database does with a change: the model by which tests and simulations know what a restart
    /// finds. Ends of attempts and results are not kept: what the scheduler needs of them lies in the jobs.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::ExperimentAdded(record) => self.experiments.push(record.clone()),
            Change::ExperimentCancelled { experiment, cancelled } => {
                if let Some(row) = self.experiments.iter_mut().find(|row| row.id == *experiment) {
                    row.cancelled = *cancelled;
                }
            }
            Change::RecipeAdded(id, recipe) => self.recipes.push((*id, Arc::clone(recipe))),
            Change::JobAdded(record) => self.jobs.push(record.as_ref().clone()),
            Change::JobsLinked(link) => self.links.push(link.clone()),
            Change::JobChanged(change) => {
                if let Some(row) = self.job(change.job) {
                    row.state = change.state.clone();
                    row.priority = change.priority;
                    row.failures = change.failures;
                    row.losses = change.losses;
                    row.latest = change.latest.map(Box::new);
                }
            }
            Change::AttemptStarted { lease, token, job, worker, .. } => {
                self.last_lease = *lease;
                if let Some(row) = self.job(*job) {
                    row.latest =
                        Some(Box::new(Attempt { held: Held { lease: *lease, token: *token }, worker: *worker }));
                }
            }
            Change::AttemptEnded { .. } | Change::ResultRecorded { .. } => {}
            Change::Worker(record) => match self.workers.iter_mut().find(|row| row.id == record.id) {
                Some(row) => row.clone_from(record),
                None => self.workers.push(record.clone()),
            },
            Change::Event(event) => self.last_sequence = event.sequence,
        }
    }

    fn job(&mut self, id: JobId) -> Option<&mut JobRecord> {
        self.jobs.get_mut(usize::try_from(id.0.checked_sub(1)?).ok()?)
    }
}
