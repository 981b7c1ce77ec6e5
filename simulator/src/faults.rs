//! What machines can't use, and lost workers: who may get a job, and what counts as its failure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promptfield_core::id::{JobId, LeaseId, RecipeId, WorkerId};
use promptfield_core::job::outcome::FailureClass;
use promptfield_core::job::spec::Recipe;
use promptfield_core::scheduler::machine_fault::{FaultOf, MachineFault};
use promptfield_core::scheduler::{Change, JobChange, JobStateName, WorkerDescription};
use promptfield_core::time::Timestamp;

use crate::audit::{Applied, Violation};
use crate::wire::{Ask, Lacks};

/// What the changes say of it; only in a small world.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    recipes: Vec<Arc<Recipe>>,
    jobs: Vec<RecipeId>,
    workers: HashMap<WorkerId, WorkerDescription>,
    stand: BTreeMap<(String, FaultOf), MachineFault>,
    found: u64,
    /// The failures of each job that have been counted.
    failures: HashMap<JobId, u32>,
    /// The job of each attempt that may still report, and how many epochs it has completed, as far as the scheduler has heard since its last start.
    attempts: HashMap<LeaseId, (JobId, u32)>,
    /// The leases of each job that is held.
    leases: HashMap<JobId, Vec<LeaseId>>,
    /// The most epochs of attempts that were lost, of open jobs.
    epochs: HashMap<JobId, u32>,
    /// Jobs whose next change must count so many failures more.
    due: HashMap<JobId, u32>,
    uncounted: u64,
    /// The attempt whose end the command at hand reports.
    reported: Option<LeaseId>,
}

impl Faults {
    /// How often a machine was found unable to use something.
    pub(crate) const fn found(&self) -> u64 {
        self.found
    }

    /// Losses of workers that didn't count.
    pub(crate) const fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// The scheduler was rebuilt, and knows no more how far attempts are.
    pub(crate) fn restarted(&mut self) {
        self.attempts.values_mut().for_each(|(_, epoch)| *epoch = 0);
    }

    /// A command that was carried out, before its changes are followed.
    pub(crate) fn applied(&mut self, applied: &Applied) {
        self.reported = match applied.ask {
            Some(Ask::Fail { lease, .. }) => Some(lease),
            _ => None,
        };
        if applied.reply.is_err() {
            return;
        }
        match applied.ask {
            Some(Ask::Progress { lease, step, .. }) if step > 0 => {
                if let Some((_, epoch)) = self.attempts.get_mut(&lease) {
                    *epoch = crate::wire::epoch(step);
                }
            }
            Some(Ask::Fail { lease, lacks: Lacks::Machine(_) | Lacks::Folder, .. }) => {
                if let Some((job, _)) = self.attempts.get(&lease) {
                    self.due.insert(*job, 0);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn change(&mut self, change: &Change, at: Timestamp) -> Result<(), Violation> {
        match change {
            Change::RecipeAdded(_, recipe) => self.recipes.push(Arc::clone(recipe)),
            Change::JobsAdded(records) => self.jobs.extend(records.iter().map(|record| record.recipe)),
            Change::Worker(record) => {
                self.workers.insert(record.id, record.description.clone());
            }
            Change::MachineFault { fault, stands } => return self.fault(fault, *stands, at),
            Change::AttemptStarted { lease, job, worker, .. } => {
                self.attempts.insert(*lease, (*job, 0));
                return self.begins(*job, *worker, at);
            }
            Change::AttemptEnded { lease, failure, .. } => {
                let Some(&(job, epoch)) = self.attempts.get(lease) else { return Ok(()) };
                let lost = failure.as_ref().is_some_and(|failure| failure.class == FailureClass::WorkerLost);
                let by_itself = self.reported != Some(*lease);
                let alone = self.leases.get(&job).is_none_or(|leases| leases.iter().all(|other| other == lease));
                if lost && by_itself && alone {
                    let most = self.epochs.entry(job).or_default();
                    let counted = epoch <= *most;
                    *most = (*most).max(epoch);
                    self.uncounted += u64::from(!counted);
                    self.due.insert(job, u32::from(counted));
                }
            }
            Change::JobChanged(change) => return self.moves(change),
            _ => {}
        }
        Ok(())
    }

    /// What is found again isn't tried for a while; only a person may say otherwise.
    fn fault(&mut self, fault: &MachineFault, stands: bool, at: Timestamp) -> Result<(), Violation> {
        let key = (fault.host.clone(), fault.what.clone());
        let known = self.stand.remove(&key);
        if !stands {
            return Ok(());
        }
        if known.is_none_or(|known| known.times < fault.times) {
            self.found += 1;
            if fault.next_trial.since(at) < MachineFault::FIRST_WAIT_MS {
                return Err(Violation::TriedTooSoon { fault: fault.words() });
            }
        }
        self.stand.insert(key, fault.clone());
        Ok(())
    }

    /// A machine gets no job that it was found unable to do, but for a trial.
    fn begins(&self, job: JobId, worker: WorkerId, at: Timestamp) -> Result<(), Violation> {
        let Some(description) = self.workers.get(&worker) else { return Ok(()) };
        let recipe = self.jobs.get((job.0 as usize).wrapping_sub(1));
        let Some(recipe) = recipe.and_then(|recipe| self.recipes.get((recipe.0 as usize).wrapping_sub(1))) else {
            return Ok(());
        };
        let needs = [
            FaultOf::OutputRoot(description.output_root.clone()),
            FaultOf::Dataset(recipe.dataset.clone()),
            FaultOf::Backbone(recipe.backbone.clone()),
            FaultOf::Job(job),
        ];
        let host = &description.host;
        let bar = needs.into_iter().find_map(|what| self.stand.get(&(host.clone(), what)).filter(|it| it.bars(at)));
        bar.map_or(Ok(()), |fault| Err(Violation::GivenToUnable { worker, job, fault: fault.words() }))
    }

    /// What isn't the job's fault isn't counted, and neither is a lost worker that got further than any before it.
    fn moves(&mut self, change: &JobChange) -> Result<(), Violation> {
        let JobChange { job, failures, .. } = *change;
        let state = change.state.name();
        let before = self.failures.insert(job, failures).unwrap_or_default();
        self.leases.insert(job, change.state.lease().map(|lease| lease.id).into_iter().collect());
        if state.is_final() {
            self.epochs.remove(&job);
        }
        let Some(more) = self.due.remove(&job) else { return Ok(()) };
        if state == JobStateName::Queued && failures != before + more {
            return Err(Violation::WrongFailures { job, expected: before + more, found: failures });
        }
        Ok(())
    }
}
