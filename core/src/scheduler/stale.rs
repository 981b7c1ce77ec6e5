//! Which results rest on something else than what holds today.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Change, Rejection, Reply, Scheduler};
use crate::id::{ExperimentId, JobId};
use crate::job::basis::{Basis, Changed, Draw, Finding, Reading, Stale};
use crate::job::spec::{BasisHash, CompactSpec};
use crate::protocol::ClassSubset;
use crate::time::Timestamp;

/// What holds today: the pins of the backbones, and what machines found last when they read the data sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Today {
    pub(super) pins: BTreeMap<String, BasisHash>,
    datasets: HashMap<String, BTreeMap<(ClassSubset, u32, u64), Reading>>,
}

impl Today {
    pub(super) fn reading(&self, spec: &CompactSpec) -> Option<&Reading> {
        let classes = ClassSubset::of(spec.recipe.protocol, spec.stage);
        self.datasets.get(&spec.recipe.dataset)?.get(&(classes, spec.shots, spec.seed))
    }

    /// Notes what was read; `false` if something later is known, or the very same. That the same was found later counts too: of
    /// two draws that disagree on the test list, the one that was read last is right.
    pub(super) fn read(&mut self, draw: &Draw, found: Reading) -> bool {
        let draws = self.datasets.entry(draw.dataset.clone()).or_default();
        let key = (draw.classes, draw.shots, draw.seed);
        match draws.get_mut(&key) {
            Some(known) if known.at > found.at => false,
            Some(known) => {
                // Image files are looked at only on request: what was found is kept until the lists change.
                let kept = known.images.filter(|_| known.split == found.split);
                let found = Reading { images: found.images.or(kept), ..found };
                std::mem::replace(known, found) != found
            }
            None => {
                draws.insert(key, found);
                true
            }
        }
    }

    /// The test list of some of a data set's classes: the latest that was read, with whichever shots and seed.
    fn test_list(&self, spec: &CompactSpec) -> Option<BasisHash> {
        let classes = ClassSubset::of(spec.recipe.protocol, spec.stage);
        let draws = self.datasets.get(&spec.recipe.dataset)?.iter().filter(|((of, ..), _)| *of == classes);
        draws.map(|(_, reading)| reading).max_by_key(|reading| reading.at).map(|reading| reading.test)
    }
}

impl Scheduler {
    /// The identities that backbones' names are pinned to.
    pub const fn pins(&self) -> &BTreeMap<String, BasisHash> {
        &self.today.pins
    }

    /// What a job's result rests on; nothing is known without a result, or without a manifest.
    pub fn basis(&self, job: JobId) -> Basis {
        let place = self.basis_of.get(&job).and_then(|place| self.bases.get(*place as usize));
        place.copied().unwrap_or_default()
    }

    /// Whether a job's result comes from a folder that another tool completed.
    pub fn is_foreign(&self, job: JobId) -> bool {
        !self.basis_of.contains_key(&job) && self.job(job).is_some_and(|job| job.state.name().is_done())
    }

    /// What machines found last of the lists that a job reads.
    pub fn reading(&self, job: JobId) -> Option<Reading> {
        self.today.reading(&self.job(job)?.spec).copied()
    }

    /// Why a job's result is stale; `None` if it isn't, or if there is none.
    pub fn why_stale(&self, job: JobId) -> Option<Stale> {
        let record = self.job(job).filter(|record| record.state.name().is_done())?;
        self.stale_itself(&record.spec, self.basis(job)).or_else(|| {
            let needs = record.needs?;
            let training = self.job(needs).filter(|training| training.state.name().is_done())?;
            let because = self.stale_itself(&training.spec, self.basis(needs))?.because;
            Some(Stale { changed: Changed::Training, because: format!("of its training, job {needs}, {because}") })
        })
    }

    fn stale_itself(&self, spec: &CompactSpec, basis: Basis) -> Option<Stale> {
        if !basis.is_known() {
            return None;
        }
        let differs =
            |had: Option<BasisHash>, today: Option<BasisHash>| had.zip(today).filter(|(had, today)| had != today);
        let backbone = &spec.recipe.backbone;
        if let Some((had, pinned)) = differs(basis.backbone, self.today.pins.get(backbone).copied()) {
            let because =
                format!("the backbone `{backbone}` was {}, and it is pinned to {}", had.short(), pinned.short());
            return Some(Stale { changed: Changed::Backbone, because });
        }
        let dataset = &spec.recipe.dataset;
        let reading = self.today.reading(spec);
        // What a manifest doesn't say of its test list follows from a split that is the same.
        let test = basis.test.or_else(|| Some(reading.filter(|reading| Some(reading.split) == basis.split)?.test));
        if let Some((had, today)) = differs(test, self.today.test_list(spec)) {
            let because = format!("the test list of `{dataset}` was {}, and is {} now", had.short(), today.short());
            return Some(Stale { changed: Changed::TestList, because });
        }
        let (had, today) = differs(basis.split, reading.map(|reading| reading.split))?;
        let because = format!("the split of `{dataset}` was {}, and is {} now", had.short(), today.short());
        Some(Stale { changed: Changed::Split, because })
    }

    /// The jobs of an experiment whose results are stale, with why.
    pub fn stale_of(&self, experiment: ExperimentId) -> Vec<(JobId, Stale)> {
        // A job may stand in several of its variants.
        let mut seen = BTreeSet::new();
        let jobs = self.jobs_of(experiment).map(|(job, _)| job.id).filter(|job| seen.insert(*job));
        jobs.filter_map(|job| Some((job, self.why_stale(job)?))).collect()
    }

    /// Notes what a result rests on.
    pub(super) fn note_basis(&mut self, job: JobId, basis: Basis) {
        let next = self.bases.len() as u32;
        let place = *self.by_basis.entry(basis).or_insert(next);
        if place == next {
            self.bases.push(basis);
        }
        self.basis_of.insert(job, place);
    }

    /// Notes what a machine read of the lists of a job.
    pub(super) fn note_reading(&mut self, job: JobId, found: Reading) {
        let Some(draw) = self.job(job).map(|record| Draw::of(&record.spec)) else { return };
        if self.today.read(&draw, found)
            && let Some(reading) = self.reading(job)
        {
            self.changes.push(Change::DataRead { draw, reading });
        }
    }

    /// Notes what a machine found for jobs that have results.
    pub(super) fn look(&mut self, findings: &[Finding], now: Timestamp) -> Result<Reply, Rejection> {
        if let Some(unknown) = findings.iter().find(|finding| self.job(finding.job).is_none()) {
            return Err(Rejection::NoJob(unknown.job));
        }
        for finding in findings {
            let Finding { job, split_sha256: split, test_sha256: test, images_sha256: images } = *finding;
            self.note_reading(job, Reading { split, test, images, at: now });
        }
        Ok(Reply::Done)
    }

    /// Pins a backbone's name to an identity: workers that have another one get no jobs with it.
    pub(super) fn pin(&mut self, backbone: &str, sha256: BasisHash) {
        if self.today.pins.insert(backbone.to_owned(), sha256) == Some(sha256) {
            return;
        }
        self.changes.push(Change::BackbonePinned { backbone: backbone.to_owned(), sha256 });
        let pins = &self.today.pins;
        for worker in self.workers.values_mut() {
            worker.find_able(pins, &mut self.names);
        }
    }
}
