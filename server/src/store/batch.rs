//! The scheduler's changes, sorted by what they write.
//!
//! A batch is one transaction, so that nobody sees it half done: of a job's several states in it only the last is written. What is
//! pointed at comes before what points at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use promptfield_core::id::{ExperimentId, JobId, LeaseId, PilotId, RecipeId, WorkerId};
use promptfield_core::job::basis::{Draw, Reading};
use promptfield_core::job::spec::{BasisHash, Recipe};
use promptfield_core::scheduler::machine_fault::{FaultOf, MachineFault};
use promptfield_core::scheduler::pilot_records::{PilotRecord, PoolRecord};
use promptfield_core::scheduler::{
    Change, Event, ExperimentRecord, JobChange, JobRecord, JobState, Link, Need, Setback, WorkerRecord,
};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::attempts::{End, Start};
use super::results::NewResult;
use super::{
    StoreError, attempts, basis, events, experiments, faults, jobs, needs, pilots, results, unfinished, workers,
};

#[derive(Default)]
pub(super) struct Batch<'a> {
    experiments: Vec<&'a ExperimentRecord>,
    cancelled: BTreeMap<ExperimentId, bool>,
    recipes: Vec<(RecipeId, &'a Arc<Recipe>)>,
    workers: BTreeMap<WorkerId, &'a WorkerRecord>,
    jobs: Vec<&'a JobRecord>,
    links: Vec<&'a Link>,
    changed: BTreeMap<JobId, &'a JobChange>,
    ends: BTreeMap<LeaseId, End<'a>>,
    starts: Vec<Start>,
    /// Of results that were there before this batch, and of those that came with it.
    superseded: [Vec<(JobId, Timestamp, &'a str)>; 2],
    results: BTreeMap<JobId, NewResult<'a>>,
    readings: BTreeMap<&'a Draw, Reading>,
    pins: BTreeMap<&'a str, BasisHash>,
    needs: BTreeMap<&'a str, Need>,
    spared: Vec<JobId>,
    unfinished: BTreeMap<JobId, Option<&'a str>>,
    setbacks: BTreeMap<JobId, Option<&'a Setback>>,
    faults: BTreeMap<(&'a str, &'a str, &'a FaultOf), (&'a MachineFault, bool)>,
    forgotten: BTreeMap<WorkerId, bool>,
    pools: BTreeMap<&'a str, &'a PoolRecord>,
    pilots: BTreeMap<PilotId, &'a PilotRecord>,
    events: Vec<&'a Event>,
}

impl<'a> Batch<'a> {
    pub(super) fn sorted(changes: &'a [Change]) -> Self {
        let mut batch = Self::default();
        for change in changes {
            match change {
                Change::ExperimentAdded(record) => batch.experiments.push(record),
                Change::ExperimentCancelled { experiment, cancelled } => {
                    batch.cancelled.insert(*experiment, *cancelled);
                }
                Change::RecipeAdded(id, recipe) => batch.recipes.push((*id, recipe)),
                Change::JobsAdded(records) => batch.jobs.extend(records),
                Change::JobsLinked(link) => batch.links.push(link),
                Change::JobChanged(change) => {
                    batch.changed.insert(change.job, change);
                }
                Change::AttemptStarted { lease, token, job, worker, at } => {
                    batch.starts.push(Start { lease: *lease, token: *token, job: *job, worker: *worker, at: *at });
                }
                Change::AttemptEnded { lease, at, end, failure } => {
                    batch.ends.insert(*lease, End { at: *at, how: *end, failure: failure.as_ref() });
                }
                Change::ResultRecorded { job, lease, result, manifest, evaluation } => {
                    let (manifest, evaluation) = (manifest.as_deref(), evaluation.as_deref());
                    let new = NewResult { job: *job, lease: *lease, result: result.as_ref(), manifest, evaluation };
                    batch.results.insert(*job, new);
                }
                Change::ResultSuperseded { job, at, reason } => {
                    let is_new = usize::from(batch.results.contains_key(job));
                    batch.superseded[is_new].push((*job, *at, reason));
                }
                Change::DataRead { draw, reading } => {
                    batch.readings.insert(draw, *reading);
                }
                Change::BackbonePinned { backbone, sha256 } => {
                    batch.pins.insert(backbone, *sha256);
                }
                Change::NeedChanged { shape, need } => {
                    batch.needs.insert(shape, *need);
                }
                Change::JobSpared(job) => batch.spared.push(*job),
                Change::UnfinishedChanged { job, sha256 } => {
                    batch.unfinished.insert(*job, sha256.as_deref());
                }
                Change::SetbackChanged { job, setback } => {
                    batch.setbacks.insert(*job, setback.as_ref());
                }
                Change::MachineFault { fault, stands } => {
                    batch.faults.insert((&fault.host, &fault.places, &fault.what), (fault, *stands));
                }
                Change::WorkerForgotten { worker, used } => {
                    batch.forgotten.insert(*worker, *used);
                }
                Change::Worker(record) => {
                    batch.workers.insert(record.id, record);
                }
                Change::Pool(record) => {
                    batch.pools.insert(&record.name, record);
                }
                Change::Pilot(record) => {
                    batch.pilots.insert(record.id, record);
                }
                Change::Event(event) => batch.events.push(event),
            }
        }
        batch
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        experiments::insert(connection, &self.experiments).await?;
        for (experiment, cancelled) in self.cancelled {
            experiments::set_cancelled(connection, experiment, cancelled).await?;
        }
        jobs::insert_recipes(connection, &self.recipes).await?;
        // Of one name, the earlier worker goes before the later one comes.
        workers::upsert(connection, &self.workers.into_values().collect::<Vec<_>>()).await?;
        jobs::insert(connection, &self.jobs).await?;
        experiments::insert_links(connection, &self.links).await?;
        attempts::insert(connection, &self.starts).await?;
        attempts::set_ends(connection, &self.ends.into_iter().collect::<Vec<_>>()).await?;
        let (mut changed, mut failed) = (Vec::new(), Vec::new());
        for change in self.changed.into_values() {
            match &change.state {
                JobState::Failed(failure) => failed.push((change, failure.as_ref())),
                _ => changed.push(change),
            }
        }
        jobs::set_states(connection, &changed, &failed).await?;
        let [before, new] = self.superseded;
        for (job, at, reason) in before {
            results::supersede(connection, job, at, reason).await?;
        }
        results::insert(connection, &self.results.into_values().collect::<Vec<_>>()).await?;
        for (job, at, reason) in new {
            results::supersede(connection, job, at, reason).await?;
        }
        basis::upsert_readings(connection, &self.readings.into_iter().collect::<Vec<_>>()).await?;
        basis::upsert_pins(connection, &self.pins.into_iter().collect::<Vec<_>>()).await?;
        needs::upsert(connection, &self.needs.into_iter().collect::<Vec<_>>()).await?;
        needs::spare(connection, &self.spared).await?;
        let (kept, ended) = parted(self.unfinished);
        unfinished::keep(connection, &kept).await?;
        unfinished::remove(connection, &ended).await?;
        let (kept, ended) = parted(self.setbacks);
        faults::upsert_setbacks(connection, &kept).await?;
        faults::remove_setbacks(connection, &ended).await?;
        let (stand, over): (Vec<_>, Vec<_>) = self.faults.into_values().partition(|(_, stands)| *stands);
        faults::upsert(connection, &stand.into_iter().map(|(fault, _)| fault).collect::<Vec<_>>()).await?;
        faults::remove(connection, &over.into_iter().map(|(fault, _)| fault).collect::<Vec<_>>()).await?;
        workers::forget(connection, &self.forgotten).await?;
        pilots::upsert_pools(connection, &self.pools.into_values().collect::<Vec<_>>()).await?;
        pilots::upsert(connection, &self.pilots.into_values().collect::<Vec<_>>()).await?;
        events::insert(connection, &self.events).await
    }
}

/// What is kept now of jobs, and the jobs of which nothing is.
fn parted<T>(changed: BTreeMap<JobId, Option<T>>) -> (Vec<(JobId, T)>, Vec<JobId>) {
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    for (job, value) in changed {
        match value {
            Some(value) => kept.push((job, value)),
            None => ended.push(job),
        }
    }
    (kept, ended)
}
