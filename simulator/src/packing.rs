//! What workers hold at once, checked against what was learned of the memory that jobs take.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use promptfield_core::id::{JobId, RecipeId, WorkerId};
use promptfield_core::job::spec::Recipe;
use promptfield_core::method::Methods;
use promptfield_core::protocol::Stage;
use promptfield_core::scheduler::{Change, Need, WorkerRecord, shape};

use crate::audit::Violation;

/// What the changes say of it.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    recipes: Vec<Arc<Recipe>>,
    /// What decides each job's shape.
    jobs: Vec<(RecipeId, Stage)>,
    needs: HashMap<Arc<str>, Need>,
    spared: HashSet<JobId>,
    /// The memory of the workers that state it, in MiB.
    memory_mib: HashMap<WorkerId, u64>,
    /// What workers hold, and who holds a job.
    held: HashMap<WorkerId, BTreeSet<JobId>>,
    holders: HashMap<JobId, Vec<WorkerId>>,
}

impl Packing {
    /// Out-of-memory errors that were overlooked.
    pub(crate) fn spared(&self) -> usize {
        self.spared.len()
    }

    /// The bytes that it takes for jobs.
    pub(crate) fn bytes(&self) -> usize {
        self.jobs.capacity() * size_of::<(RecipeId, Stage)>()
    }

    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Violation> {
        match change {
            Change::RecipeAdded(_, recipe) => self.recipes.push(Arc::clone(recipe)),
            Change::JobsAdded(records) => {
                self.jobs.extend(records.iter().map(|record| (record.recipe, record.spec.stage)));
            }
            Change::Worker(WorkerRecord { id, description, .. }) => {
                self.memory_mib.extend(description.memory_mib.map(|memory_mib| (*id, memory_mib)));
            }
            Change::AttemptStarted { job, worker, .. } => return self.begins(*job, *worker),
            Change::JobChanged(change) => {
                let now: Vec<WorkerId> = change.state.lease().map(|lease| lease.worker).into_iter().collect();
                for worker in self.holders.remove(&change.job).unwrap_or_default() {
                    self.held.entry(worker).or_default().remove(&change.job);
                }
                for worker in &now {
                    self.held.entry(*worker).or_default().insert(change.job);
                }
                if !now.is_empty() {
                    self.holders.insert(change.job, now);
                }
            }
            Change::NeedChanged { shape, need } => {
                let known = self.needs.insert(Arc::clone(shape), *need).unwrap_or_default();
                let fewer = |known: u32| need.together.is_some_and(|most| (1..=known).contains(&most));
                if need.memory_mib < known.memory_mib || !known.together.is_none_or(fewer) {
                    return Err(Violation::Unlearned(shape.to_string()));
                }
            }
            Change::JobSpared(job) => {
                let first = self.spared.insert(*job);
                return first.then_some(()).ok_or(Violation::SparedTwice(*job));
            }
            _ => {}
        }
        Ok(())
    }

    /// A worker that holds something gets no job for which it holds too much.
    fn begins(&self, job: JobId, worker: WorkerId) -> Result<(), Violation> {
        let held = self.held.get(&worker).into_iter().flatten().copied().filter(|other| *other != job);
        let all: Vec<JobId> = held.chain([job]).collect();
        if all.len() == 1 {
            return Ok(());
        }
        let needs = || all.iter().filter_map(|job| self.need(*job));
        let measured: u64 = needs().filter_map(|need| need.memory_mib).map(u64::from).sum();
        let crowded = needs().filter_map(|need| need.together).any(|most| all.len() > most as usize);
        if crowded || self.memory_mib.get(&worker).is_some_and(|memory| measured > *memory) {
            return Err(Violation::TooMuch { worker, job, jobs: all.len(), measured });
        }
        Ok(())
    }

    fn need(&self, job: JobId) -> Option<Need> {
        if self.needs.is_empty() {
            return None;
        }
        let (recipe, stage) = self.jobs.get((job.0 as usize).wrapping_sub(1))?;
        let recipe = self.recipes.get((recipe.0 as usize).wrapping_sub(1))?;
        self.needs.get(shape(recipe, *stage, Methods::built_in()).as_str()).copied()
    }
}

#[cfg(test)]
mod tests {
    use promptfield_core::id::{FencingToken, LeaseId};
    use promptfield_core::scheduler::{Command, Grant, Policy, Reply, Scheduler, WorkerDescription};
    use promptfield_core::time::Timestamp;

    use super::*;
    use crate::plans::Plans;
    use crate::random::Random;

    /// Jobs that wait, and two of them in a worker's hands.
    fn two_at_once(memory_mib: Option<u64>) -> (Packing, Vec<Grant>, Change) {
        let (mut scheduler, mut packing, now) = (Scheduler::new(Policy::default()), Packing::default(), Timestamp(1));
        let (experiment, jobs) = Plans::small(&mut Random::new(1)).unwrap().get(0).unwrap();
        let backbones = crate::plans::BACKBONES.map(str::to_owned).to_vec();
        let worker = WorkerDescription {
            name: "w".into(),
            host: "h".into(),
            output_root: "/out".into(),
            places: String::new(),
            slots: 2,
            devices: vec!["cpu".into()],
            backbones,
            backbone_sha256: std::collections::BTreeMap::new(),
            methods: std::collections::BTreeMap::new(),
            version: "0".into(),
            labels: Vec::new(),
            memory_mib,
            pilot: None,
            time_left_ms: None,
        };
        let mut grants = Vec::new();
        for command in [
            Command::Submit { experiment: Box::new(experiment), jobs, by: None },
            Command::Register(Box::new(worker)),
            Command::Lease { worker: WorkerId(1), slots: 1 },
        ] {
            let (changes, reply) = scheduler.apply(command, now);
            changes.iter().try_for_each(|change| packing.change(change)).unwrap();
            if let Ok(Reply::Granted(granted)) = reply {
                grants = granted;
            }
        }
        let second = JobId(if grants[0].job == JobId(1) { 2 } else { 1 });
        let (lease, token) = (LeaseId(2), FencingToken(99));
        let start = Change::AttemptStarted { lease, token, job: second, worker: WorkerId(1), at: now };
        (packing, grants, start)
    }

    fn learn(packing: &mut Packing, grant: &Grant, need: Need) -> Result<(), Violation> {
        let shape = shape(&grant.spec.recipe, grant.spec.stage, Methods::built_in()).into();
        packing.change(&Change::NeedChanged { shape, need })
    }

    #[test]
    fn too_many_at_once_are_found() {
        let (mut packing, grants, start) = two_at_once(Some(4_000));
        packing.change(&start).unwrap();
        learn(&mut packing, &grants[0], Need { memory_mib: Some(4_000), together: Some(2) }).unwrap();
        packing.change(&start).unwrap();
        learn(&mut packing, &grants[0], Need { memory_mib: Some(4_000), together: Some(1) }).unwrap();
        assert!(matches!(packing.change(&start), Err(Violation::TooMuch { jobs: 2, .. })));
    }

    #[test]
    fn more_than_a_worker_s_memory_is_found() {
        let (mut packing, grants, start) = two_at_once(Some(4_000));
        learn(&mut packing, &grants[0], Need { memory_mib: Some(4_001), together: None }).unwrap();
        assert!(matches!(packing.change(&start), Err(Violation::TooMuch { measured: 4_001.., .. })));
        let (mut packing, grants, start) = two_at_once(None);
        learn(&mut packing, &grants[0], Need { memory_mib: Some(4_001), together: None }).unwrap();
        packing.change(&start).unwrap();
    }

    #[test]
    fn what_is_unlearned_and_a_job_that_is_spared_twice_are_found() {
        for need in [
            Need { memory_mib: Some(8), together: Some(2) },
            Need { memory_mib: Some(9), together: Some(3) },
            Need { memory_mib: Some(9), together: None },
        ] {
            let (mut packing, grants, _) = two_at_once(None);
            learn(&mut packing, &grants[0], Need { memory_mib: Some(9), together: Some(2) }).unwrap();
            assert!(matches!(learn(&mut packing, &grants[0], need), Err(Violation::Unlearned(_))), "{need:?}");
        }
        let (mut packing, grants, _) = two_at_once(None);
        packing.change(&Change::JobSpared(grants[0].job)).unwrap();
        assert_eq!(packing.change(&Change::JobSpared(grants[0].job)), Err(Violation::SparedTwice(grants[0].job)));
    }
}
