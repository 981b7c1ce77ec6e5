//! What decides how much memory a job takes, and what was learned of it.
//!
//! Jobs of one shape take the same memory. It is estimated until one of them was measured. The queue knows jobs by their shape, so
//! that what is learned changes no place in it, and a waiting job has no byte more for it: its recipe and its stage say its shape.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Change, JobRecord, Scheduler};
use crate::id::JobId;
use crate::job::spec::Recipe;
use crate::method::value::Memory;
use crate::method::{Method, Methods};
use crate::protocol::{ClassSubset, Stage};
use crate::scheduler::estimate;

/// A measured memory is counted with a tenth more.
const MARGIN: u32 = 10;
/// What is less than a twentieth more than what is known lies within the margin, and isn't worth a change.
const WORTH: u32 = 20;

/// A shape's number.
pub(super) type ShapeId = u32;

/// What was learned of the memory that the jobs of a shape take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The most that one of them was seen to take, on any device, in MiB; `None` before the first was measured.
    pub memory_mib: Option<u32>,
    /// So many jobs at once are the most for a worker that has one of these among them: one ran out of memory beside more.
    pub together: Option<u32>,
}

/// A shape in words, as what was learned of it is kept: all of a recipe and a stage that decides how much memory a job takes.
///
/// Of a method that isn't known, every value may decide.
pub fn shape(recipe: &Recipe, stage: Stage, methods: &Methods) -> String {
    let Recipe { method, backbone, precision, dataset, protocol, .. } = recipe;
    let classes = ClassSubset::of(*protocol, stage);
    let mut words = format!("{stage} {method} {backbone} {precision} {dataset} {classes}");
    let known = methods.get(*method);
    let decides = |name: &String| {
        let memory =
            known.map_or(Memory::Always, |known| known.values.get(name).map_or(Memory::No, |value| value.memory));
        memory == Memory::Always || (memory == Memory::Training && stage == Stage::Train)
    };
    for (name, value) in recipe.hyper.0.iter().filter(|(name, _)| decides(name)) {
        words.push_str(&format!(" {name}={value}"));
    }
    words
}

/// A shape with what is known of it.
#[derive(Debug)]
pub(super) struct Shape {
    words: Arc<str>,
    /// The method of its jobs; absent of a shape that no job has had yet.
    method: Option<Method>,
    estimate_mib: u32,
    need: Need,
}

impl Shape {
    /// The memory to count for a job, in MiB; 0 where nothing is known.
    pub(super) fn memory_mib(&self) -> u32 {
        let measured = self.need.memory_mib.map(|measured| measured.saturating_add(measured.div_ceil(MARGIN)));
        measured.unwrap_or(self.estimate_mib)
    }

    pub(super) const fn method(&self) -> Option<Method> {
        self.method
    }

    pub(super) const fn need(&self) -> Need {
        self.need
    }
}

/// All shapes, by number and by their words.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    numbers: HashMap<Arc<str>, ShapeId>,
    shapes: Vec<Shape>,
}

impl Shapes {
    /// The shape of a recipe's jobs of a stage.
    pub(super) fn number(&mut self, recipe: &Recipe, stage: Stage, methods: &Methods) -> ShapeId {
        let (number, shape) = self.entry(&shape(recipe, stage, methods));
        shape.method = Some(recipe.method);
        shape.estimate_mib = estimate::memory_mib(recipe, stage);
        number
    }

    /// Notes what an earlier run learned.
    pub(super) fn recall(&mut self, words: &str, need: Need) {
        self.entry(words).1.need = need;
    }

    pub(super) fn get(&self, number: ShapeId) -> Option<&Shape> {
        self.shapes.get(number as usize)
    }

    /// All that was learned, by the shapes' words.
    pub(super) fn learned(&self) -> Vec<(Arc<str>, Need)> {
        let learned = self.shapes.iter().filter(|shape| shape.need != Need::default());
        let mut learned: Vec<_> = learned.map(|shape| (Arc::clone(&shape.words), shape.need)).collect();
        learned.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        learned
    }

    fn entry(&mut self, words: &str) -> (ShapeId, &mut Shape) {
        let number = self.numbers.get(words).copied().unwrap_or_else(|| {
            let (number, words) = (self.shapes.len() as ShapeId, Arc::<str>::from(words));
            self.numbers.insert(Arc::clone(&words), number);
            self.shapes.push(Shape { words, method: None, estimate_mib: 0, need: Need::default() });
            number
        });
        (number, &mut self.shapes[number as usize])
    }
}

impl Scheduler {
    pub(super) fn shape_of(&self, record: &JobRecord) -> Option<&Shape> {
        self.shapes.get(self.recipe(record.recipe)?.shape_of(record.spec.stage))
    }

    /// What was learned of the memory that jobs like this one take.
    pub fn need_of(&self, job: JobId) -> Option<Need> {
        self.shape_of(self.job(job)?).map(Shape::need)
    }

    /// Learns how much memory a job took.
    pub(super) fn learn_memory(&mut self, job: JobId, memory_mib: u32) {
        self.learn(job, |need| {
            let is_news = |known: u32| memory_mib > known.saturating_add(known / WORTH);
            if memory_mib > 0 && need.memory_mib.is_none_or(is_news) {
                need.memory_mib = Some(memory_mib);
            }
        });
    }

    /// Learns that so many jobs at once were too many for a worker that had this one among them.
    pub(super) fn learn_crowd(&mut self, job: JobId, jobs: usize) {
        let most = u32::try_from(jobs).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        self.learn(job, |need| need.together = Some(need.together.map_or(most, |known| known.min(most))));
    }

    fn learn(&mut self, job: JobId, lesson: impl FnOnce(&mut Need)) {
        let Some(record) = self.jobs.get(job).map(|entry| &entry.record) else { return };
        let Some(number) = self.recipe(record.recipe).map(|recipe| recipe.shape_of(record.spec.stage)) else { return };
        let Some(shape) = self.shapes.shapes.get_mut(number as usize) else { return };
        let known = shape.need;
        lesson(&mut shape.need);
        if shape.need != known {
            self.changes.push(Change::NeedChanged { shape: Arc::clone(&shape.words), need: shape.need });
        }
    }

    /// Whether an out-of-memory error of this job is still to be overlooked; it is once.
    pub(super) fn spare(&mut self, job: JobId) -> bool {
        let first = self.spared.insert(job);
        if first {
            self.changes.push(Change::JobSpared(job));
        }
        first
    }
}
