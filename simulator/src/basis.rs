//! What results rest on, checked against what was written last of the data sets and the backbones.

use std::collections::{BTreeMap, HashMap, HashSet};

use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::job::basis::{Basis, Changed, Draw, Reading};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::scheduler::{Change, Grant, Scheduler, WorkerRecord};

use crate::audit::Violation;

/// What the changes say of it.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    /// Of jobs of small worlds: in a large one nobody says what a result rests on.
    jobs: Vec<Job>,
    readings: HashMap<Draw, Reading>,
    pins: HashMap<String, BasisHash>,
    /// The weights that workers are known to have.
    weights: HashMap<WorkerId, BTreeMap<String, BasisHash>>,
    /// The jobs of which a result was superseded.
    superseded: HashSet<JobId>,
    /// Results that were superseded.
    count: u64,
}

#[derive(Debug)]
struct Job {
    draw: Draw,
    backbone: String,
    needs: Option<JobId>,
    /// That of the result that counts.
    basis: Option<Basis>,
}

impl Bases {
    /// Results that were superseded.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn is_superseded(&self, job: JobId) -> bool {
        self.superseded.contains(&job)
    }

    pub(crate) fn change(&mut self, change: &Change, small: bool) -> Result<(), Violation> {
        match change {
            Change::JobsAdded(records) if small => self.jobs.extend(records.iter().map(|record| Job {
                draw: Draw::of(&record.spec),
                backbone: record.spec.recipe.backbone.clone(),
                needs: record.needs,
                basis: None,
            })),
            Change::ResultRecorded { job, manifest, .. } => {
                if let Some(known) = self.job_mut(*job) {
                    known.basis = Some(manifest.as_deref().map(Basis::of).unwrap_or_default());
                }
            }
            Change::ResultSuperseded { job, .. } => {
                self.superseded.insert(*job);
                self.count += 1;
                if let Some(known) = self.job_mut(*job) {
                    known.basis = None;
                }
            }
            Change::DataRead { draw, reading } => {
                let before = self.readings.insert(draw.clone(), *reading);
                if before.is_some_and(|before| before.at > reading.at) {
                    return Err(Violation::ReadingWentBack(draw.dataset.clone()));
                }
            }
            Change::BackbonePinned { backbone, sha256 } => {
                self.pins.insert(backbone.clone(), *sha256);
            }
            Change::Worker(WorkerRecord { id, description, .. }) if small => {
                self.weights.insert(*id, description.backbone_sha256.clone());
            }
            Change::AttemptStarted { job, worker, .. } => {
                let Some(Job { backbone, .. }) = self.job(*job) else { return Ok(()) };
                let has = self.weights.get(worker).and_then(|weights| weights.get(backbone));
                if differ(has.copied(), self.pins.get(backbone).copied()) {
                    return Err(Violation::OtherWeights { worker: *worker, job: *job });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Who gets a job is told whether its folder, or that of its test on an earlier checkpoint, is out of date.
    pub(crate) fn granted(&self, grant: &Grant) -> Result<(), Violation> {
        let needs = grant.needs.as_ref().map(|(needs, _)| *needs);
        let afresh = std::iter::once(grant.job).chain(needs).any(|job| self.superseded.contains(&job));
        if grant.afresh == afresh { Ok(()) } else { Err(Violation::WrongAfresh { job: grant.job, afresh }) }
    }

    /// Which results are stale, against a scheduler that has nothing unwritten.
    pub(crate) fn compare(&self, scheduler: &Scheduler) -> Result<(), Violation> {
        for job in (1..=self.jobs.len() as u64).map(JobId) {
            let (written, known) = (self.why_stale(job), scheduler.why_stale(job).map(|stale| stale.changed));
            if written != known {
                return Err(Violation::WrongStale { job, written, known });
            }
        }
        Ok(())
    }

    fn why_stale(&self, job: JobId) -> Option<Changed> {
        let Job { needs, basis, .. } = self.job(job)?;
        let _has_a_result = basis.as_ref()?;
        let of_training = || needs.and_then(|needs| self.stale_itself(needs)).map(|_| Changed::Training);
        self.stale_itself(job).or_else(of_training)
    }

    fn stale_itself(&self, job: JobId) -> Option<Changed> {
        let Job { draw, backbone, basis, .. } = self.job(job)?;
        let Basis { backbone: had, split, test } = (*basis)?;
        let reading = self.readings.get(draw);
        let same = |other: &Draw| (&other.dataset, other.classes) == (&draw.dataset, draw.classes);
        let alike = self.readings.iter().filter(|(other, _)| same(other));
        let latest = alike.max_by_key(|(other, reading)| (reading.at, other.shots, other.seed));
        let implied = reading.filter(|reading| split == Some(reading.split)).map(|reading| reading.test);
        if differ(had, self.pins.get(backbone).copied()) {
            Some(Changed::Backbone)
        } else if differ(test.or(implied), latest.map(|(_, reading)| reading.test)) {
            Some(Changed::TestList)
        } else if differ(split, reading.map(|reading| reading.split)) {
            Some(Changed::Split)
        } else {
            None
        }
    }

    fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get((id.0 as usize).wrapping_sub(1))
    }

    fn job_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut((id.0 as usize).wrapping_sub(1))
    }
}

/// Whether both are known, and differ.
fn differ(one: Option<BasisHash>, other: Option<BasisHash>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
