//! How long what is left will take, judged by what is done.
//!
//! A job takes as long as its like took on average: those of the same recipe, stage and number of shots, which differ by their
//! seed. Before any of those is done, as long as those of the same method, backbone and stage; then of the same backbone and stage.

use std::collections::{HashMap, HashSet};

use super::{Counts, JobRecord, Rejection, Scheduler, WorkerState};
use crate::api::overview::{Forecast, Preview};
use crate::id::{ExperimentId, JobId, RecipeId};
use crate::matrix::PlannedJob;
use crate::method::Method;
use crate::names::Stage;
use crate::scheduler::identity;
use crate::spec::CompactSpec;
use crate::time::Timestamp;

/// What an experiment has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How long devices were at its jobs, in milliseconds.
    pub device_ms: i64,
    /// Jobs completed in the last hour.
    pub completed_last_hour: u64,
}

/// How long jobs took that are each other's like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// One of them.
    pub job: JobId,
    /// How many attempts that is of.
    pub attempts: i64,
    /// How long they took together, in milliseconds.
    pub total_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    total_ms: i64,
    attempts: i64,
}

impl Mean {
    fn add(&mut self, took: Took) {
        self.total_ms += took.total_ms;
        self.attempts += took.attempts;
    }

    /// In milliseconds.
    const fn value(self) -> i64 {
        self.total_ms / self.attempts
    }
}

/// How long jobs took, from the narrowest likeness to the widest.
#[derive(Default)]
struct Durations<'a> {
    like: HashMap<(RecipeId, Stage, u32), Mean>,
    of_method: HashMap<(Method, &'a str, Stage), Mean>,
    of_backbone: HashMap<(&'a str, Stage), Mean>,
}

impl<'a> Durations<'a> {
    /// What an attempt only found tells nothing.
    fn new(scheduler: &'a Scheduler, took: &[Took]) -> Self {
        let mut durations = Self::default();
        for &took in took {
            let Some(record) = scheduler.job(took.job) else { continue };
            if record.state.name() != super::JobStateName::Completed {
                continue;
            }
            let CompactSpec { recipe, stage, shots, .. } = &record.spec;
            let backbone = recipe.backbone.as_str();
            durations.like.entry((record.recipe, *stage, *shots)).or_default().add(took);
            durations.of_method.entry((recipe.method, backbone, *stage)).or_default().add(took);
            durations.of_backbone.entry((backbone, *stage)).or_default().add(took);
        }
        durations
    }

    /// How long a job will take, in milliseconds.
    fn of(&self, spec: &CompactSpec, recipe: Option<RecipeId>) -> Option<i64> {
        let CompactSpec { recipe: shared, stage, shots, .. } = spec;
        let backbone = shared.backbone.as_str();
        let like = recipe.and_then(|recipe| self.like.get(&(recipe, *stage, *shots)));
        let found = like
            .or_else(|| self.of_method.get(&(shared.method, backbone, *stage)))
            .or_else(|| self.of_backbone.get(&(backbone, *stage)));
        found.map(|mean| mean.value())
    }
}

/// Device time added up, as far as it's known.
#[derive(Default)]
struct Sum {
    total_ms: i64,
    longest_ms: i64,
    known: usize,
    unknown: usize,
}

impl Sum {
    fn add(&mut self, estimate_ms: Option<i64>) {
        match estimate_ms {
            Some(estimate_ms) => {
                self.total_ms += estimate_ms;
                self.longest_ms = self.longest_ms.max(estimate_ms);
                self.known += 1;
            }
            None => self.unknown += 1,
        }
    }

    fn total_ms(&self) -> Option<i64> {
        (self.known > 0 || self.unknown == 0).then_some(self.total_ms)
    }
}

impl Scheduler {
    /// What the submission of these jobs would bring. `took` is how long jobs took so far.
    pub fn preview(&self, planned: &[PlannedJob], took: &[Took]) -> Preview {
        let durations = Durations::new(self, took);
        let (mut counts, mut sum) = (Counts::default(), Sum::default());
        let mut recipes: HashMap<*const crate::spec::Recipe, Option<RecipeId>> = HashMap::new();
        // One job may stand for several values of a sweep.
        let mut seen = HashSet::new();
        let mut new = 0;
        for PlannedJob { spec, hash, .. } in planned.iter().filter(|job| seen.insert(job.hash)) {
            let known = self.jobs.with_hash(*hash).and_then(|id| self.job(id));
            match known {
                Some(record) => *counts.of(record.state.name()) += 1,
                None => new += 1,
            }
            if known.is_none_or(|record| !record.state.name().is_done()) {
                let recipe = recipes
                    .entry(std::sync::Arc::as_ptr(&spec.recipe))
                    .or_insert_with(|| self.by_recipe.get(&identity(&spec.recipe)).copied());
                sum.add(durations.of(spec, *recipe));
            }
        }
        Preview { jobs: seen.len(), new, counts, device_ms: sum.total_ms(), unknown: sum.unknown }
    }

    /// Where an experiment stands in time.
    pub fn forecast(
        &self,
        id: ExperimentId,
        took: &[Took],
        spent: Spent,
        now: Timestamp,
    ) -> Result<Forecast, Rejection> {
        let (_, counts) = self.experiment(id).ok_or(Rejection::NoExperiment(id))?;
        let durations = Durations::new(self, took);
        let left = |record: &JobRecord| {
            let whole = durations.of(&record.spec, Some(record.recipe))?;
            let done = record.state.lease().map_or(0, |lease| now.since(lease.since));
            Some((whole - done).max(0))
        };
        let mut sum = Sum::default();
        let mut seen = HashSet::new();
        for (record, _) in self.jobs_of(id) {
            if !record.state.name().is_final() && seen.insert(record.id) {
                sum.add(left(record));
            }
        }
        let is_open = counts.open() > 0;
        let eta = self.devices_at(counts).filter(|_| is_open && sum.unknown == 0).map(|devices| {
            let shared = sum.total_ms / i64::try_from(devices).unwrap_or(i64::MAX);
            now.plus(shared.max(sum.longest_ms))
        });
        let Spent { device_ms, completed_last_hour } = spent;
        Ok(Forecast {
            spent_ms: device_ms,
            completed_last_hour,
            remaining_ms: sum.total_ms(),
            unknown: sum.unknown,
            eta,
        })
    }

    /// How many of an experiment's jobs run at once: as many as now, or before any does, as there are slots.
    fn devices_at(&self, counts: &Counts) -> Option<usize> {
        let slots = || {
            let active = self.workers.values().filter(|worker| worker.record.state == WorkerState::Active);
            active.map(|worker| worker.record.description.slots).sum()
        };
        let devices = if counts.held() > 0 { counts.held() } else { slots() };
        (devices > 0).then_some(devices)
    }

    /// The identifiers of an experiment's jobs, each once, as runs of first and last.
    pub fn runs_of(&self, id: ExperimentId) -> Vec<(JobId, JobId)> {
        let links = self.experiments.get(&id).map_or(&[][..], |entry| &entry.links);
        let mut runs: Vec<(JobId, JobId)> =
            links.iter().map(|link| (link.first, JobId(link.first.0 + link.count - 1))).collect();
        runs.sort_unstable();
        runs.dedup_by(|next, before| {
            let touches = next.0.0 <= before.1.0 + 1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        runs
    }
}
