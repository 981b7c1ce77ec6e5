//! The real scheduler in virtual time: workers of one slot, nothing goes wrong, and a message takes no time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use anyhow::{Result, bail, ensure};
use promptfield_core::VERSION;
use promptfield_core::experiment::Experiment;
use promptfield_core::experiment::matrix::PlannedJob;
use promptfield_core::id::WorkerId;
use promptfield_core::job::outcome::{Outcome, TestResult};
use promptfield_core::job::spec::SpecHash;
use promptfield_core::scheduler::{Command, Held, Policy, Reply, Scheduler, WorkerDescription};
use promptfield_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What every job brings: only its time matters.
const RESULT: TestResult =
    TestResult { total: 1, correct: 1, accuracy: 100.0, error: 0.0, macro_f1: 100.0, calibration_error: None };

/// An experiment with its jobs.
pub(super) type Submission = (Experiment, Vec<PlannedJob>);

/// GPUs of a host, whose workers share a cache.
pub(super) const OF_A_HOST: usize = 8;

/// How a matrix went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "seconds, in the report too")]
pub(super) struct Ran {
    /// Until the last job ended, in seconds.
    pub(super) wall_s: f64,
    /// What all workers together were busy.
    pub(super) busy_s: f64,
    /// How long at least one of them had nothing to do.
    pub(super) partly_s: f64,
}

/// Runs experiments to their end. `seconds` says how long a worker takes for a job that it begins at a time, and is asked in the
/// order of these times.
pub(super) fn run(
    submissions: &[Submission],
    workers: usize,
    backbone: &str,
    mut seconds: impl FnMut(usize, SpecHash, f64) -> f64,
) -> Result<Ran> {
    let mut cluster = Cluster {
        scheduler: Scheduler::new(Policy::default()),
        now: 0,
        ids: Vec::new(),
        held: vec![None; workers],
        idle: (0..workers).collect(),
        ends: BinaryHeap::new(),
    };
    for worker in 0..workers {
        cluster.register(worker, backbone)?;
    }
    for (experiment, jobs) in submissions {
        let experiment = Box::new(experiment.clone());
        cluster.apply(Command::Submit { experiment, jobs: jobs.clone(), by: None })?;
    }
    let mut ran = Ran::default();
    cluster.serve(&mut seconds)?;
    while let Some(Reverse((end, worker))) = cluster.ends.pop() {
        let passed = (end - cluster.now) as f64 / 1e3;
        ran.busy_s += passed * (workers - cluster.idle.len()) as f64;
        ran.partly_s += if cluster.idle.is_empty() { 0.0 } else { passed };
        cluster.now = end;
        cluster.end(worker)?;
        cluster.serve(&mut seconds)?;
    }
    ran.wall_s = cluster.now as f64 / 1e3;
    let counts = cluster.scheduler.counts();
    ensure!(counts.completed == counts.total(), "{} of {} jobs came to their end", counts.completed, counts.total());
    Ok(ran)
}

struct Cluster {
    scheduler: Scheduler,
    /// Milliseconds since the beginning. No command lets time pass, so no lease ends.
    now: i64,
    ids: Vec<WorkerId>,
    /// What each worker has.
    held: Vec<Option<Held>>,
    /// Those that have nothing, the longest first.
    idle: VecDeque<usize>,
    /// When the busy ones end.
    ends: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Cluster {
    fn apply(&mut self, command: Command) -> Result<Reply> {
        Ok(self.scheduler.apply(command, Timestamp(self.now)).1?)
    }

    fn register(&mut self, worker: usize, backbone: &str) -> Result<()> {
        let description = WorkerDescription {
            name: format!("gpu-{worker}"),
            // The scheduler goes by it: a host goes on with the images that it has just seen.
            host: format!("host-{}", worker / OF_A_HOST),
            output_root: String::new(),
            places: String::new(),
            slots: 1,
            devices: Vec::new(),
            backbones: vec![backbone.to_owned()],
            backbone_sha256: std::collections::BTreeMap::new(),
            methods: std::collections::BTreeMap::new(),
            version: VERSION.to_owned(),
            labels: Vec::new(),
            memory_mib: None,
            pilot: None,
            time_left_ms: None,
        };
        match self.apply(Command::Register(Box::new(description)))? {
            Reply::Registered(id) => self.ids.push(id),
            other => bail!("a registration was answered with {other:?}"),
        }
        Ok(())
    }

    /// Gives jobs to those who have none.
    fn serve(&mut self, seconds: &mut impl FnMut(usize, SpecHash, f64) -> f64) -> Result<()> {
        for worker in std::mem::take(&mut self.idle) {
            let reply = self.apply(Command::Lease { worker: self.ids[worker], slots: 1 })?;
            let Reply::Granted(grants) = reply else { bail!("a worker was answered with {reply:?}") };
            let Some(grant) = grants.first() else {
                self.idle.push_back(worker);
                continue;
            };
            let takes = seconds(worker, grant.hash, self.now as f64 / 1e3);
            self.ends.push(Reverse((self.now + (takes * 1e3).round() as i64, worker)));
            self.held[worker] = Some(Held { lease: grant.lease, token: grant.token });
        }
        Ok(())
    }

    fn end(&mut self, worker: usize) -> Result<()> {
        let Some(held) = self.held[worker].take() else { bail!("worker {worker} ended a job that it didn't have") };
        let outcome = Box::new(Outcome { result: Some(RESULT), adopted: false, manifest: None });
        self.apply(Command::Complete { held, outcome, evaluation: None, memory_mib: None })?;
        self.idle.push_back(worker);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use promptfield_core::experiment::{Known, matrix};
    use std::collections::HashMap;

    use super::*;

    fn submission(protocol: &str, seeds: &[u64]) -> Submission {
        let known = Known::built_in();
        let text = format!(
            "name = \"x\"\nprotocol = \"{protocol}\"\nmethods = [\"mmrl\"]\ndatasets = [\"dtd\", \"eurosat\"]\n\
             seeds = {seeds:?}\nbackbone = \"ViT-B/16\""
        );
        let experiment = Experiment::from_toml(&text, &known).unwrap();
        let jobs = matrix::expand(&experiment, &known).unwrap();
        (experiment, jobs)
    }

    #[test]
    fn equal_jobs_are_shared_out_evenly() {
        let submissions = [submission("few_shot", &[1, 2, 3])];
        let run = |workers| run(&submissions, workers, "ViT-B/16", |_, _, _| 10.0).unwrap();
        assert_eq!(run(1), Ran { wall_s: 60.0, busy_s: 60.0, partly_s: 0.0 });
        assert_eq!(run(6), Ran { wall_s: 10.0, busy_s: 60.0, partly_s: 0.0 });
        assert_eq!(run(4), Ran { wall_s: 20.0, busy_s: 60.0, partly_s: 10.0 });
        assert_eq!(run(9), Ran { wall_s: 10.0, busy_s: 60.0, partly_s: 10.0 });
    }

    #[test]
    fn a_test_waits_for_its_training_and_every_job_runs_once() {
        let submissions = [submission("base_to_new", &[1, 2]), submission("few_shot", &[1])];
        let jobs = submissions.iter().flat_map(|(_, jobs)| jobs).map(|job| (job.hash, job)).collect::<HashMap<_, _>>();
        let mut begun = HashMap::new();
        let ran = run(&submissions, 3, "ViT-B/16", |worker, hash, at| {
            assert!(worker < 3 && begun.insert(hash, at).is_none());
            7.0
        });
        let ran = ran.unwrap();
        assert_eq!(begun.len(), jobs.len());
        for (hash, at) in &begun {
            let needed = jobs[hash].spec.trained_by.map(|training| begun[&training] + 7.0);
            assert!(needed.is_none_or(|ended| ended <= *at), "{hash} began at {at}");
        }
        assert!(ran.wall_s * 3.0 >= ran.busy_s && (ran.busy_s - 70.0).abs() < 1e-6, "{ran:?}");
    }

    #[test]
    fn jobs_that_no_worker_can_run_are_not_passed_over() {
        let error = run(&[submission("few_shot", &[1])], 2, "RN50", |_, _, _| 1.0).unwrap_err();
        assert_eq!(error.to_string(), "0 of 2 jobs came to their end");
    }
}
