//! The full matrix of four methods: 276 jobs of each, on so many GPUs.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use promptfield_core::experiment::{Experiment, Known, matrix};
use promptfield_core::input::from_toml;
use promptfield_core::job::spec::SpecHash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cache::{Cache, Each, Passes};
use super::cluster::{self, OF_A_HOST, Ran, Submission};
use super::speed::{On, Program, Speeds};
use super::work;
use crate::args::MatrixArgs;
use crate::machine::Machine;
use crate::trainer::{self, Backbone};

/// All that learn.
pub(super) const METHODS: [&str; 4] = ["alignednorm", "mmrlpp", "mmrl", "coop"];
const EXPERIMENTS: [&str; 3] = [
    include_str!("../../../configs/experiments/base_to_new.toml"),
    include_str!("../../../configs/experiments/cross_dataset.toml"),
    include_str!("../../../configs/experiments/few_shot.toml"),
];
const BACKBONE: &str = "ViT-B/16";

/// The simulated runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Full {
    pub(super) jobs: usize,
    /// Where the trainer and plain `PyTorch` were measured.
    pub(super) trainer_measured_on: Machine,
    /// Whether by CPU time and not by wall-clock.
    pub(super) cpu_time: bool,
    /// What goes by before a job's first step.
    pub(super) preparation: Preparation,
    pub(super) cache_gib: u64,
    pub(super) runs: Vec<Run>,
}

/// Seconds before a job's first step.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Preparation {
    /// In a process of its own.
    pub(super) scripts_s: f64,
    /// In a resident trainer.
    pub(super) ours_s: f64,
}

/// A simulated run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) on: On,
    pub(super) gpus: usize,
    pub(super) who: Who,
    #[serde(flatten)]
    pub(super) ran: Ran,
    /// The most that a host's cache took.
    pub(super) cache_bytes: u64,
}

/// Who runs the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    /// Plain `PyTorch`, a process for each job.
    Scripts,
    /// The trainer without a cache.
    NoCache,
    /// The trainer with a cache of the size that was asked for.
    Cache,
    /// The trainer with a cache that holds everything.
    WholeCache,
}

impl Who {
    const ALL: [Self; 4] = [Self::Scripts, Self::NoCache, Self::Cache, Self::WholeCache];
}

/// Images that a job goes through, and the seconds of each time.
struct Cost {
    passes: Passes,
    plain: f64,
    each: Each,
}

/// Simulates what the arguments ask for.
pub(super) fn simulate(args: &MatrixArgs, measured: trainer::Report, preparation: Preparation) -> Result<Full> {
    let speeds = Speeds::of(&measured.paces(Backbone::VitB16, args.cpu_time))?;
    let submissions = submissions()?;
    let mut runs = Vec::new();
    for on in [On::Measured, On::Rtx3090] {
        let costs = costs(&submissions, &speeds, on)?;
        for gpus in &args.gpus {
            let gpus = usize::try_from(gpus.get()).context("there are too many GPUs")?;
            for who in Who::ALL {
                let budget = if who == Who::Cache { args.cache.get() << 30 } else { u64::MAX };
                let mut caches = vec![Cache::new(budget); gpus.div_ceil(OF_A_HOST)];
                let ran = cluster::run(&submissions, gpus, BACKBONE, |worker, job, begin| {
                    seconds(&costs[&job], who, &preparation, &mut caches[worker / OF_A_HOST], begin)
                })?;
                let cache_bytes = caches.iter().map(|cache| cache.most).max().unwrap_or_default();
                runs.push(Run { on, gpus, who, ran, cache_bytes });
            }
        }
    }
    Ok(Full {
        jobs: submissions.iter().map(|(_, jobs)| jobs.len()).sum(),
        trainer_measured_on: measured.machine,
        cpu_time: args.cpu_time,
        preparation,
        cache_gib: args.cache.get(),
        runs,
    })
}

/// The three protocols' experiments as they are in `configs/`, with the methods and the backbone put in.
fn submissions() -> Result<Vec<Submission>> {
    let known = Known::built_in();
    EXPERIMENTS
        .iter()
        .map(|text| {
            let mut document: Map<String, Value> = from_toml(text)?;
            document.insert("methods".to_owned(), json!(METHODS));
            document.insert("backbone".to_owned(), json!(BACKBONE));
            let experiment = Experiment::from_json(document.into(), &known)?;
            let jobs = matrix::expand(&experiment, &known)?;
            Ok((experiment, jobs))
        })
        .collect()
}

fn costs(submissions: &[Submission], speeds: &Speeds, on: On) -> Result<HashMap<SpecHash, Vec<Cost>>> {
    let mut costs = HashMap::new();
    for job in submissions.iter().flat_map(|(_, jobs)| jobs) {
        let mut of_job = Vec::new();
        for part in work::parts(&job.spec.to_spec())? {
            let seconds = |program| part.seconds(speeds, on, program);
            let each = Each { cold: seconds(Program::Cold)?, warm: seconds(Program::Warm)? };
            of_job.push(Cost { plain: seconds(Program::Plain)?, each, passes: part.passes });
        }
        costs.insert(job.hash, of_job);
    }
    Ok(costs)
}

/// How long a job takes that begins at a time.
fn seconds(costs: &[Cost], who: Who, preparation: &Preparation, cache: &mut Cache, begin: f64) -> f64 {
    let sum = |of: &dyn Fn(&Cost) -> f64| costs.iter().map(|cost| f64::from(cost.passes.times) * of(cost)).sum::<f64>();
    match who {
        Who::Scripts => preparation.scripts_s + sum(&|cost| cost.plain),
        Who::NoCache => preparation.ours_s + sum(&|cost| cost.each.cold),
        Who::Cache | Who::WholeCache => {
            let first_step = begin + preparation.ours_s;
            costs.iter().fold(first_step, |at, cost| cache.through(&cost.passes, cost.each, at)) - begin
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::speed::paces;
    use super::*;

    #[test]
    fn four_methods_have_276_jobs_each() {
        let jobs: Vec<_> = submissions().unwrap().into_iter().flat_map(|(_, jobs)| jobs).collect();
        for method in METHODS {
            let count = jobs.iter().filter(|job| job.spec.recipe.method.key() == method).count();
            assert_eq!(count, 276, "{method}");
        }
        assert_eq!(jobs.len(), 4 * 276);
    }

    #[test]
    fn the_whole_matrix_is_no_slower_with_more_cache() {
        let speeds = Speeds::of(&[paces(100, 4, 0.4), paces(100, 32, 0.4)]).unwrap();
        let submissions = submissions().unwrap();
        let costs = costs(&submissions, &speeds, On::Measured).unwrap();
        let run = |who, gpus: usize, budget| {
            let mut caches = vec![Cache::new(budget); gpus.div_ceil(OF_A_HOST)];
            let preparation = Preparation::default();
            cluster::run(&submissions, gpus, BACKBONE, |worker, job, begin| {
                seconds(&costs[&job], who, &preparation, &mut caches[worker / OF_A_HOST], begin)
            })
            .unwrap()
            .wall_s
        };
        let [scripts, cold] = [Who::Scripts, Who::NoCache].map(|who| run(who, 1, 0));
        assert!((scripts / cold - 2.0).abs() < 1e-6, "{scripts} {cold}");
        let [none, some, all] = [0, 1 << 40, u64::MAX].map(|budget| run(Who::Cache, 1, budget));
        // A duration is rounded to milliseconds.
        assert!((none - cold).abs() < 1.0 && all < some && some < none, "{cold} {none} {some} {all}");
        assert!(all > cold / 2.0);
        // 32 GPUs are four hosts, none of which has what another computed.
        assert!(run(Who::Cache, 32, u64::MAX) > all / 32.0);
    }
}
