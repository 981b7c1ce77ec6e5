//! The experiments that people submit.

use std::time::{Duration, Instant};

use promptfield_core::experiment::matrix::{self, PlannedJob};
use promptfield_core::experiment::{Experiment, Known};
use promptfield_core::input::InvalidInput;

use crate::random::Random;

/// The backbones of the simulated installation.
pub(crate) const BACKBONES: [&str; 2] = ["ViT-B/16", "ViT-B/32"];

/// The data sets of small experiments.
pub(crate) const DATASETS: [&str; 4] = ["imagenet", "dtd", "eurosat", "food101"];

/// Jobs for each seed of a large experiment: two methods on ten data sets, trained and tested.
const JOBS_PER_SEED: usize = 40;
/// Seeds of a large experiment.
const SEEDS: usize = 250;

/// What can be submitted, by its place.
#[derive(Debug)]
pub(crate) struct Plans {
    known: Known,
    experiments: Vec<Experiment>,
    /// The expanded matrices of small experiments.
    expanded: Vec<Vec<PlannedJob>>,
    expanding: Duration,
}

impl Plans {
    /// A few experiments that share jobs.
    pub(crate) fn small(random: &mut Random) -> Result<Self, InvalidInput> {
        let mut plans = Self::new();
        for i in 0..random.between(2..=6) {
            let methods = ["[\"alignednorm\"]", "[\"alignednorm\", \"mmrlpp\"]", "[\"alignednorm\", \"zero_shot\"]"];
            let datasets = ["[\"dtd\"]", "[\"dtd\", \"eurosat\"]", "[\"eurosat\", \"food101\"]"];
            let protocols = ["base_to_new", "cross_dataset", "cross_dataset", "few_shot"];
            let seeds = ["[1]", "[1, 2]", "[2, 3]", "[1, 2, 3]"];
            let limits = ["", "", "max_running = 1", "max_running = 3"];
            let sweeps = ["", "", "[sweep]\nlr = [0.002, 0.0025]"];
            let text = format!(
                "name = \"small {i}\"\nprotocol = \"{}\"\nmethods = {}\ndatasets = {}\nseeds = {}\nbackbone = \"{}\"\n\
                 priority = {}\n{}\n{}",
                protocols[random.place(protocols.len())],
                methods[random.place(methods.len())],
                datasets[random.place(datasets.len())],
                seeds[random.place(seeds.len())],
                BACKBONES[usize::from(random.chance(150))],
                random.between(-1..=1),
                limits[random.place(limits.len())],
                sweeps[random.place(sweeps.len())],
            );
            let experiment = Experiment::from_toml(&text, &plans.known)?;
            plans.expanded.push(matrix::expand(&experiment, &plans.known)?);
            plans.experiments.push(experiment);
        }
        Ok(plans)
    }

    /// Experiments with at least so many jobs together, and not a whole seed more.
    pub(crate) fn large(jobs: usize) -> Result<Self, InvalidInput> {
        let mut plans = Self::new();
        let seeds = jobs.div_ceil(JOBS_PER_SEED);
        for first in (1..=seeds).step_by(SEEDS) {
            let seeds: Vec<usize> = (first..=seeds.min(first + SEEDS - 1)).collect();
            let text = format!(
                "name = \"large\"\nprotocol = \"base_to_new\"\nmethods = [\"alignednorm\", \"mmrlpp\"]\n\
                 datasets = [\"caltech101\", \"dtd\", \"eurosat\", \"fgvc_aircraft\", \"food101\", \"oxford_flowers\", \
                 \"oxford_pets\", \"stanford_cars\", \"sun397\", \"ucf101\"]\nseeds = {seeds:?}\nbackbone = \"{}\"",
                BACKBONES[0],
            );
            plans.experiments.push(Experiment::from_toml(&text, &plans.known)?);
        }
        Ok(plans)
    }

    fn new() -> Self {
        let known = Known { backbones: BACKBONES.map(str::to_owned).to_vec(), ..Known::built_in() };
        Self { known, experiments: Vec::new(), expanded: Vec::new(), expanding: Duration::ZERO }
    }

    pub(crate) const fn len(&self) -> usize {
        self.experiments.len()
    }

    /// How long matrices were expanded, of this process's time.
    pub(crate) const fn expanding(&self) -> Duration {
        self.expanding
    }

    /// An experiment with its jobs.
    pub(crate) fn get(&mut self, plan: usize) -> Result<(Experiment, Vec<PlannedJob>), InvalidInput> {
        let Some(experiment) = self.experiments.get(plan).cloned() else {
            return Err(InvalidInput::new("plan", plan, format!("a number below {}", self.experiments.len())));
        };
        if let Some(jobs) = self.expanded.get(plan) {
            return Ok((experiment, jobs.clone()));
        }
        let started = Instant::now();
        let jobs = matrix::expand(&experiment, &self.known)?;
        self.expanding += started.elapsed();
        Ok((experiment, jobs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_plans_have_as_many_jobs_as_were_asked_for() {
        let mut plans = Plans::large(JOBS_PER_SEED * (SEEDS + 2) - 1).unwrap();
        assert_eq!(plans.len(), 2);
        assert_eq!(plans.get(1).unwrap().1.len(), 2 * JOBS_PER_SEED);
    }
}
