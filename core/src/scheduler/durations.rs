//! How long jobs take, judged by those that are done.
//!
//! A job takes as long as its like took on average: those of the same recipe, stage and number of shots, which differ by their
//! seed. Before any of those is done, as long as those of the same method, backbone and stage; then of the same backbone and stage.

use std::collections::HashMap;

use super::{JobRecord, JobStateName, NameId, Scheduler};
use crate::id::{JobId, RecipeId};
use crate::job::spec::CompactSpec;
use crate::method::Method;
use crate::protocol::Stage;

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
    const fn add(&mut self, took: Took) {
        self.total_ms += took.total_ms;
        self.attempts += took.attempts;
    }

    /// In milliseconds.
    const fn value(self) -> Option<i64> {
        self.total_ms.checked_div(self.attempts)
    }
}

/// How long jobs took, from the narrowest likeness to the widest.
#[derive(Debug, Default)]
pub(super) struct Durations {
    like: HashMap<(RecipeId, Stage, u32), Mean>,
    of_method: HashMap<(Method, NameId, Stage), Mean>,
    of_backbone: HashMap<(NameId, Stage), Mean>,
}

impl Scheduler {
    /// Takes over how long jobs took in earlier runs.
    pub fn recall(&mut self, took: &[Took]) {
        for took in took {
            self.learn_duration(*took);
        }
    }

    /// What an attempt only found tells nothing.
    pub(super) fn learn_duration(&mut self, took: Took) {
        let Some(record) = self.jobs.get(took.job).map(|entry| &entry.record) else { return };
        let Some(backbone) = self.recipe(record.recipe).map(|recipe| recipe.backbone) else { return };
        if record.state.name() != JobStateName::Completed {
            return;
        }
        let CompactSpec { recipe: shared, stage, shots, .. } = &record.spec;
        let (like, method, stage) = ((record.recipe, *stage, *shots), shared.method, *stage);
        self.durations.like.entry(like).or_default().add(took);
        self.durations.of_method.entry((method, backbone, stage)).or_default().add(took);
        self.durations.of_backbone.entry((backbone, stage)).or_default().add(took);
    }

    /// How long a job will take, in milliseconds; `None` before anything like it was done.
    pub(super) fn duration(&self, spec: &CompactSpec, recipe: Option<RecipeId>) -> Option<i64> {
        let CompactSpec { recipe: shared, stage, shots, .. } = spec;
        let Durations { like, of_method, of_backbone } = &self.durations;
        let backbone = self.names.find(&shared.backbone)?;
        let found = recipe.and_then(|recipe| like.get(&(recipe, *stage, *shots)));
        let found = found.or_else(|| of_method.get(&(shared.method, backbone, *stage)));
        found.or_else(|| of_backbone.get(&(backbone, *stage)))?.value()
    }

    /// The same, of a job that is here.
    pub(super) fn duration_of(&self, record: &JobRecord) -> Option<i64> {
        self.duration(&record.spec, Some(record.recipe))
    }
}
