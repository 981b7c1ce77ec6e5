//! The rows that changes leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Attempt, Change, ExperimentRecord, Held, JobRecord, Link, Need, Setback, WorkerRecord};
use crate::id::{ExperimentId, JobId, LeaseId, PilotId, RecipeId, Sequence, WorkerId};
use crate::job::basis::{Basis, Draw, Reading};
use crate::job::spec::{BasisHash, Recipe};
use crate::scheduler::machine_fault::{FaultKey, MachineFault};
use crate::scheduler::pilot_records::{PilotRecord, PoolRecord};

/// Everything that the changes of earlier runs left behind and a scheduler needs to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The experiments, by identifier.
    pub experiments: Vec<ExperimentRecord>,
    /// The recipes, by identifier, without gaps from 1 on.
    pub recipes: Vec<(RecipeId, Arc<Recipe>)>,
    /// The jobs, by identifier, without gaps from 1 on.
    pub jobs: Vec<JobRecord>,
    /// Which jobs the experiments have, in the order in which they were linked.
    pub links: Vec<Link>,
    /// The workers that aren't forgotten, by identifier.
    pub workers: Vec<WorkerRecord>,
    /// The greatest worker's identifier.
    pub last_worker: WorkerId,
    /// What was learned of the memory that jobs take, by their shapes' words ([`super::shape()`]).
    pub needs: BTreeMap<Arc<str>, Need>,
    /// The jobs of which an out-of-memory error was overlooked.
    pub spared: BTreeSet<JobId>,
    /// The artefacts from which jobs go on that were given back.
    pub unfinished: BTreeMap<JobId, String>,
    /// What became of attempts that were broken off, of open jobs.
    pub setbacks: BTreeMap<JobId, Setback>,
    /// What machines were found unable to use, by host.
    pub faults: BTreeMap<(String, FaultKey), MachineFault>,
    /// What results rest on, of those with a manifest.
    pub bases: BTreeMap<JobId, Basis>,
    /// The jobs of which a result was superseded, whether or not they have a new one.
    pub superseded: BTreeSet<JobId>,
    /// What machines found last when they read the data sets.
    pub readings: BTreeMap<Draw, Reading>,
    /// The identities that backbones' names are pinned to.
    pub pins: BTreeMap<String, BasisHash>,
    /// The pools, by name.
    pub pools: BTreeMap<String, PoolRecord>,
    /// The pilots that aren't over.
    pub pilots: BTreeMap<PilotId, PilotRecord>,
    /// The greatest pilot's identifier.
    pub last_pilot: PilotId,
    /// The greatest lease that was granted.
    pub last_lease: LeaseId,
    /// The greatest sequence number of the event log.
    pub last_sequence: Sequence,
}

/// A change that doesn't fit the rows before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is about an experiment without a row.
    #[error("a change of experiment {0}, which has no row")]
    NoExperiment(ExperimentId),
    /// It is about a job without a row.
    #[error("a change of job {0}, which has no row")]
    NoJob(JobId),
    /// It adds a row whose identifier isn't the one after those before it.
    #[error("a new row of {what} {id} after that of {last}")]
    OutOfOrder {
        /// What it adds.
        what: &'static str,
        /// The row's identifier.
        id: u64,
        /// The greatest one before it.
        last: u64,
    },
}

impl Rows {
    /// Does what the coordinator's database does with a change: the model by which tests and simulations know what a restart
    /// finds. What no later decision rests on (ended attempts, manifests but for their hashes) leaves no trace here.
    pub fn apply(&mut self, change: &Change) -> Result<(), Misfit> {
        match change {
            Change::ExperimentAdded(record) => {
                follows("experiment", self.experiments.len() as u64, record.id.0)?;
                self.experiments.push(record.clone());
            }
            Change::ExperimentCancelled { experiment, cancelled } => {
                let place = self.experiments.binary_search_by_key(experiment, |row| row.id);
                let row = place.ok().and_then(|place| self.experiments.get_mut(place));
                row.ok_or(Misfit::NoExperiment(*experiment))?.cancelled = *cancelled;
            }
            Change::RecipeAdded(id, recipe) => {
                follows("recipe", self.recipes.len() as u64, id.0)?;
                self.recipes.push((*id, Arc::clone(recipe)));
            }
            Change::JobsAdded(records) => {
                for record in records {
                    follows("job", self.jobs.len() as u64, record.id.0)?;
                    self.jobs.push(record.clone());
                }
            }
            Change::JobsLinked(link) => self.links.push(link.clone()),
            Change::JobChanged(change) => {
                let row = self.job(change.job)?;
                row.state = change.state.clone();
                row.priority = change.priority;
                row.failures = change.failures;
                row.losses = change.losses;
                row.latest = change.latest.map(Box::new);
            }
            Change::AttemptStarted { lease, token, job, worker, .. } => {
                follows("attempt", self.last_lease.0, lease.0)?;
                let attempt = Attempt { held: Held { lease: *lease, token: *token }, worker: *worker };
                self.job(*job)?.latest = Some(Box::new(attempt));
                self.last_lease = *lease;
            }
            Change::AttemptEnded { .. } => {}
            Change::ResultRecorded { job, manifest, .. } => {
                self.job(*job)?;
                self.bases.extend(manifest.as_ref().map(|manifest| (*job, Basis::of(manifest))));
            }
            Change::ResultSuperseded { job, .. } => {
                self.job(*job)?;
                self.superseded.insert(*job);
                self.bases.remove(job);
            }
            Change::DataRead { draw, reading } => {
                self.readings.insert(draw.clone(), *reading);
            }
            Change::BackbonePinned { backbone, sha256 } => {
                self.pins.insert(backbone.clone(), *sha256);
            }
            Change::NeedChanged { shape, need } => {
                self.needs.insert(Arc::clone(shape), *need);
            }
            Change::JobSpared(job) => {
                self.job(*job)?;
                self.spared.insert(*job);
            }
            Change::UnfinishedChanged { job, sha256 } => {
                self.job(*job)?;
                match sha256 {
                    Some(sha256) => self.unfinished.insert(*job, sha256.clone()),
                    None => self.unfinished.remove(job),
                };
            }
            Change::SetbackChanged { job, setback } => {
                self.job(*job)?;
                match setback {
                    Some(setback) => self.setbacks.insert(*job, setback.clone()),
                    None => self.setbacks.remove(job),
                };
            }
            Change::MachineFault { fault, stands } => {
                let key = (fault.host.clone(), fault.key());
                if *stands {
                    self.faults.insert(key, fault.as_ref().clone());
                } else {
                    self.faults.remove(&key);
                }
            }
            Change::Worker(record) => {
                self.last_worker = self.last_worker.max(record.id);
                match self.workers.binary_search_by_key(&record.id, |row| row.id) {
                    Ok(place) => self.workers[place] = record.clone(),
                    Err(place) => self.workers.insert(place, record.clone()),
                }
            }
            Change::WorkerForgotten { worker, .. } => self.workers.retain(|row| row.id != *worker),
            Change::Pool(record) => {
                self.pools.insert(record.name.clone(), record.as_ref().clone());
            }
            Change::Pilot(record) => {
                self.last_pilot = self.last_pilot.max(record.id);
                if record.state.is_over() {
                    self.pilots.remove(&record.id);
                } else {
                    self.pilots.insert(record.id, record.as_ref().clone());
                }
            }
            Change::Event(event) => {
                follows("event", self.last_sequence.0, event.sequence.0)?;
                self.last_sequence = event.sequence;
            }
        }
        Ok(())
    }

    fn job(&mut self, id: JobId) -> Result<&mut JobRecord, Misfit> {
        let place = id.0.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.jobs.get_mut(place)).ok_or(Misfit::NoJob(id))
    }
}

fn follows(what: &'static str, last: u64, id: u64) -> Result<(), Misfit> {
    if id == last + 1 { Ok(()) } else { Err(Misfit::OutOfOrder { what, id, last }) }
}
