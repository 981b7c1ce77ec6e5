//! How long what is left will take, judged by what is done.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::queue::NameId;
use super::{Counts, ExperimentEntry, JobRecord, JobState, Link, Rejection, Scheduler, Spot, identity};
use crate::experiment::matrix::PlannedJob;
use crate::id::{ExperimentId, JobId, RecipeId, WorkerId};
use crate::method::Method;
use crate::time::Timestamp;

/// What an experiment has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How long devices were at its jobs, in milliseconds.
    pub device_ms: i64,
    /// Jobs completed in the last hour.
    pub completed_last_hour: u64,
}

/// What the submission of an experiment would bring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Preview {
    /// How many jobs it has.
    pub jobs: usize,
    /// How many of them nobody has asked for before.
    pub new: usize,
    /// The others by state. Those that failed or were cancelled would be queued again.
    pub counts: Counts,
    /// How long devices would be at it, in milliseconds, as far as jobs like these were measured; `null` if none was.
    pub device_ms: Option<i64>,
    /// How many of the jobs that are to be done are like none that was measured; their time isn't in `device_ms`.
    pub unknown: usize,
}

/// Where an experiment stands in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forecast {
    /// How long devices have been at its jobs so far, in milliseconds, attempts in vain included.
    pub spent_ms: i64,
    /// How many of its jobs were completed in the last hour.
    pub completed_last_hour: u64,
    /// How long devices will still be at it, in milliseconds, as far as jobs like those that are left were measured; `null` if none
    /// was.
    pub remaining_ms: Option<i64>,
    /// How many of the jobs that are left are like none that was measured; their time isn't in `remaining_ms`.
    pub unknown: usize,
    /// When it will be done if as many devices as now stay at it; `null` if that can't be told, if some of its jobs can't be run as
    /// things are, or if it is done.
    pub eta: Option<Timestamp>,
    /// Why some of its jobs can't be run as things are: what the connected workers lack; `null` if each can.
    #[serde(default)]
    pub reason: Option<String>,
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

/// Who can take what waits of an experiment.
#[derive(Default)]
struct Fit {
    /// The workers for each kind of job that waits: whose it is, its backbone and its method.
    able: HashMap<(ExperimentId, NameId, Method), BTreeSet<WorkerId>>,
    /// How many jobs no worker can take.
    stuck: usize,
    /// One of them that waits for nothing but a worker.
    example: Option<JobId>,
}

impl Fit {
    fn add(&mut self, scheduler: &Scheduler, record: &JobRecord, now: Timestamp) {
        if record.state.lease().is_some() {
            return;
        }
        let Some(Spot { lane, group }) = scheduler.spot(record.id) else { return };
        let able = self
            .able
            .entry((lane.owner, lane.backbone, record.spec.recipe.method))
            .or_insert_with(|| scheduler.able(&lane, group.shape).map(|worker| worker.record.id).collect());
        if !able.is_empty() {
            return;
        }
        self.stuck += 1;
        let waits = matches!(record.state, JobState::Queued { not_before } if not_before <= now);
        let has_room = || scheduler.experiments.get(&lane.owner).is_none_or(ExperimentEntry::has_room);
        if self.example.is_none() && waits && has_room() {
            self.example = Some(record.id);
        }
    }

    /// Why some of the jobs can't be run as things are.
    fn reason(&self, scheduler: &Scheduler, now: Timestamp) -> Option<String> {
        if self.stuck == 0 {
            return None;
        }
        let explained = self.example.and_then(|job| scheduler.explain(job, now).ok());
        let because = explained.map_or_else(|| "no connected worker has what they need".to_owned(), |it| it.because);
        Some(format!("{} of its jobs can't run: {because}", self.stuck))
    }

    /// How many of the jobs may run at once.
    fn slots(&self, scheduler: &Scheduler) -> usize {
        let workers: BTreeSet<&WorkerId> = self.able.values().flatten().collect();
        workers.iter().filter_map(|id| scheduler.worker(**id)).map(|worker| worker.description.slots).sum()
    }
}

impl Scheduler {
    /// What the submission of these jobs would bring.
    pub fn preview(&self, planned: &[PlannedJob]) -> Preview {
        let (mut counts, mut sum) = (Counts::default(), Sum::default());
        let mut recipes: HashMap<*const crate::job::spec::Recipe, Option<RecipeId>> = HashMap::new();
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
                sum.add(self.duration(spec, *recipe));
            }
        }
        Preview { jobs: seen.len(), new, counts, device_ms: sum.total_ms(), unknown: sum.unknown }
    }

    /// Where an experiment stands in time.
    pub fn forecast(&self, id: ExperimentId, spent: Spent, now: Timestamp) -> Result<Forecast, Rejection> {
        let (_, counts) = self.experiment(id).ok_or(Rejection::NoExperiment(id))?;
        let left = |record: &JobRecord| {
            let whole = self.duration_of(record)?;
            let done = record.state.lease().map_or(0, |lease| now.since(lease.since));
            Some((whole - done).max(0))
        };
        let mut sum = Sum::default();
        let mut seen = HashSet::new();
        let mut fit = Fit::default();
        for (record, _) in self.jobs_of(id) {
            if !record.state.name().is_final() && seen.insert(record.id) {
                sum.add(left(record));
                fit.add(self, record, now);
            }
        }
        let is_open = counts.open() > 0;
        let reason = fit.reason(self, now);
        // As many of its jobs run at once as now, or before any does, as there are slots for them.
        let devices = if counts.held() > 0 { counts.held() } else { fit.slots(self) };
        let is_known = is_open && sum.unknown == 0 && reason.is_none() && devices > 0;
        let eta = is_known.then(|| {
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
            reason,
        })
    }

    /// The sweep's values for which a job stands in an experiment; empty without a sweep, and if it stands for several.
    pub fn variant_in(&self, job: JobId, id: ExperimentId) -> &str {
        let links = self.experiments.get(&id).map_or(&[][..], |entry| &entry.links);
        let has = |link: &&Link| (link.first.0..link.first.0 + link.count).contains(&job.0);
        let mut variants = links.iter().filter(has).map(|link| link.variant.as_ref());
        let first = variants.next().unwrap_or_default();
        if variants.all(|other| other == first) { first } else { "" }
    }

    /// The same in the oldest of the experiments that want the job and sweep.
    pub fn variant_of(&self, job: JobId) -> &str {
        let mut variants = self.experiments_of(job).iter().map(|id| self.variant_in(job, *id));
        variants.find(|variant| !variant.is_empty()).unwrap_or_default()
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
