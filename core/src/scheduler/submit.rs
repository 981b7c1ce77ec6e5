//! Experiments come in.

use std::sync::Arc;

use super::{
    Change, EventKind, ExperimentEntry, ExperimentRecord, JobRecord, JobState, Link, RecipeEntry, Reply, Scheduler,
    Submitted, identity,
};
use crate::experiment::Experiment;
use crate::experiment::matrix::PlannedJob;
use crate::id::{ExperimentId, JobId, RecipeId};
use crate::job::spec::{CompactSpec, Recipe, SpecHash};
use crate::time::Timestamp;

impl Scheduler {
    /// Takes an experiment. The same one again is a no-op; a job that another experiment has too is shared with it.
    pub(super) fn submit(
        &mut self,
        experiment: Experiment,
        planned: Vec<PlannedJob>,
        by: Option<String>,
        now: Timestamp,
    ) -> Reply {
        let hash = experiment.hash();
        if let Some(&id) = self.by_experiment_hash.get(&hash)
            && let Some(entry) = self.experiments.get(&id)
        {
            return Reply::Submitted(Submitted { experiment: id, created: false, counts: entry.counts });
        }
        let id = ExperimentId(self.experiments.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let (name, priority) = (experiment.name.clone(), experiment.priority);
        let record = ExperimentRecord {
            id,
            hash,
            experiment: Arc::new(experiment),
            submitted_at: now,
            submitted_by: by,
            cancelled: false,
        };
        self.changes.push(Change::ExperimentAdded(record.clone()));
        self.experiments.insert(id, ExperimentEntry { record, links: Vec::new(), counts: super::Counts::default() });
        self.by_experiment_hash.insert(hash, id);
        self.event(EventKind::ExperimentSubmitted { experiment: id, name, jobs: planned.len() }, now);
        self.jobs.reserve(planned.len());
        // New jobs line up when all that their places depend on is known.
        let first_new = self.jobs.next_id();
        let mut latest: Option<(Arc<Recipe>, RecipeId)> = None;
        let mut links: Vec<Link> = Vec::new();
        for PlannedJob { spec, hash, variant } in planned {
            let job = self.jobs.with_hash(hash).unwrap_or_else(|| {
                // Jobs of one recipe follow each other.
                let recipe = match &latest {
                    Some((recipe, id)) if Arc::ptr_eq(recipe, &spec.recipe) => *id,
                    _ => self.add_recipe(&spec.recipe),
                };
                latest = Some((Arc::clone(&spec.recipe), recipe));
                self.add_job(spec, recipe, hash, priority, first_new, now)
            });
            if job < first_new {
                self.leave_queue(job);
                self.want(id, job, priority);
                self.enter_queue(job);
            } else {
                self.want(id, job, priority);
            }
            match links.last_mut() {
                Some(link) if link.variant == variant && link.first.0 + link.count == job.0 => link.count += 1,
                _ => links.push(Link { experiment: id, first: job, count: 1, variant }),
            }
        }
        let new = first_new.0..self.jobs.next_id().0;
        let added: Vec<JobRecord> = new.clone().filter_map(|job| self.job(JobId(job)).cloned()).collect();
        for job in new.clone() {
            self.enter_queue(JobId(job));
        }
        self.try_at_once(new.map(JobId), now);
        if !added.is_empty() {
            self.changes.push(Change::JobsAdded(added));
        }
        for link in &links {
            self.changes.push(Change::JobsLinked(link.clone()));
            // What an earlier experiment left failed or cancelled is wanted again.
            for job in link.jobs().take_while(|job| *job < first_new) {
                self.revive(&[job], now);
            }
        }
        let Some(entry) = self.experiments.get_mut(&id) else {
            return Reply::Done;
        };
        entry.links = links;
        let counts = entry.counts;
        // Others may have done all of it.
        self.note_end(id, now);
        Reply::Submitted(Submitted { experiment: id, created: true, counts })
    }

    fn add_recipe(&mut self, recipe: &Arc<Recipe>) -> RecipeId {
        let next = RecipeId(self.recipes.len() as u64 + 1);
        let id = *self.by_recipe.entry(identity(recipe)).or_insert(next);
        if id == next {
            let entry = RecipeEntry::new(Arc::clone(recipe), &mut self.names, &mut self.shapes, &self.policy.methods);
            self.push_recipe(entry);
            self.changes.push(Change::RecipeAdded(id, Arc::clone(recipe)));
        }
        id
    }

    /// Adds a job, which doesn't line up yet; nor do those from `first_new` on.
    fn add_job(
        &mut self,
        spec: CompactSpec,
        recipe: RecipeId,
        hash: SpecHash,
        priority: i32,
        first_new: JobId,
        now: Timestamp,
    ) -> JobId {
        let id = self.jobs.next_id();
        let needs = spec.trained_by.and_then(|hash| self.jobs.with_hash(hash));
        let trained = needs.and_then(|needs| self.job(needs)).is_none_or(|job| job.state.name().is_done());
        let state = if trained { JobState::Queued { not_before: now } } else { JobState::Blocked };
        // The one that is in memory already.
        let shared = self.recipe(recipe).map_or_else(|| Arc::clone(&spec.recipe), |entry| Arc::clone(&entry.recipe));
        let spec = CompactSpec { recipe: shared, ..spec };
        let record = JobRecord { id, spec, recipe, hash, needs, priority, state, failures: 0, losses: 0, latest: None };
        self.jobs.push(record);
        if let Some(needs) = needs {
            if needs < first_new {
                self.leave_queue(needs);
            }
            if let Some(needed) = self.jobs.get_mut(needs) {
                needed.dependents.push(id);
            }
            if needs < first_new {
                self.enter_queue(needs);
            }
        }
        id
    }

    /// Notes that an experiment wants a job, which isn't in line now.
    fn want(&mut self, id: ExperimentId, job: JobId, priority: i32) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        let raised = priority > entry.record.priority;
        entry.record.priority = entry.record.priority.max(priority);
        let state = entry.record.state.name();
        if entry.experiments.last() != Some(&id) {
            entry.experiments.push(id);
            if let Some(experiment) = self.experiments.get_mut(&id) {
                *experiment.counts.of(state) += 1;
                if state.is_held() {
                    *self.users.entry(experiment.record.submitted_by.clone()).or_default() += 1;
                }
            }
        }
        if raised {
            self.note_job(job);
        }
    }
}
