//! Which jobs look at the same images, so that a machine which keeps what frozen towers make of images computes it once.
//!
//! Trainings of the same data set, classes, shots, seed and batch see the same augmented images in the same batches, whatever
//! their method: they are kin. A machine whose worker begins one of them has begun to fill its cache for the others, and is the
//! best place for them. Only a preference: it comes after everything that says who may run and who is more urgent.

use super::{JobState, RecipeEntry, Scheduler};
use crate::id::{JobId, RecipeId, WorkerId};
use crate::job::spec::RecipeHasher;
use crate::protocol::{ClassSubset, Stage};

/// So many recipes behind a job's own are looked at for kin of it.
const LOOKED_AT: usize = 16;
/// So many jobs are remembered for a host.
const REMEMBERED: usize = 64;

impl Scheduler {
    /// Adds the next recipe.
    pub(super) fn push_recipe(&mut self, entry: RecipeEntry) {
        let id = RecipeId(self.recipes.len() as u64 + 1);
        self.by_place.entry(entry.place).or_default().push(id);
        self.recipes.push(entry);
    }

    /// A worker has begun a job: its host becomes warm for the job's kin.
    pub(super) fn note_kin(&mut self, job: JobId, worker: WorkerId) {
        let kin = self.kin(job);
        let Some(entry) = self.workers.get(&worker).filter(|_| !kin.is_empty()) else { return };
        let remembered = self.kin.entry(entry.record.description.host.clone()).or_default();
        remembered.retain(|known| *known != job && !kin.contains(known));
        // The latest first: what the cache holds of older ones makes room first.
        kin.into_iter().rev().for_each(|job| remembered.push_front(job));
        remembered.truncate(REMEMBERED);
    }

    /// The jobs that a worker's host is warm for.
    pub(super) fn kin_at(&self, worker: WorkerId) -> impl Iterator<Item = JobId> {
        let host = self.workers.get(&worker).map(|entry| &entry.record.description.host);
        host.and_then(|host| self.kin.get(host)).into_iter().flatten().copied()
    }

    /// The kin of a training that wait in the queue.
    fn kin(&self, job: JobId) -> Vec<JobId> {
        let Some(record) = self.job(job).filter(|record| record.spec.stage == Stage::Train) else {
            return Vec::new();
        };
        let own = &record.spec.recipe;
        let all =
            self.recipe(record.recipe).and_then(|entry| self.by_place.get(&entry.place)).map_or(&[][..], Vec::as_slice);
        let shares = |method| self.policy.methods.get(method).is_some_and(|known| known.shares_images);
        if !shares(own.method) || all.len() < 2 {
            return Vec::new();
        }
        let classes = |protocol| ClassSubset::of(protocol, Stage::Train);
        // Those behind it are the likelier to wait still.
        let after = all.partition_point(|id| *id <= record.recipe);
        let others = all.iter().cycle().skip(after).take((all.len() - 1).min(LOOKED_AT));
        let recipes = others.filter_map(|id| self.recipe(*id)).map(|entry| &entry.recipe).filter(|other| {
            shares(other.method)
                && classes(other.protocol) == classes(own.protocol)
                && other.hyper.get("train_batch") == own.hyper.get("train_batch")
                && other.precision == own.precision
        });
        let jobs = recipes.filter_map(|recipe| {
            let hash = RecipeHasher::new(recipe).hash(Stage::Train, record.spec.shots, record.spec.seed, None);
            self.jobs.with_hash(hash)
        });
        jobs.filter(|job| self.job(*job).is_some_and(|job| matches!(job.state, JobState::Queued { .. }))).collect()
    }
}
