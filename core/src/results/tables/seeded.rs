//! Numbers over seeds: the one place where a table's means and deviations are made.
//!
//! The mean of an aggregate (an average over data sets, a harmonic mean) is the aggregate of its parts' means, as method.md
//! prints it (section 7). Its deviation is that of the aggregate taken for each seed by itself, over the seeds for which every
//! part is in.

use std::collections::BTreeMap;

use crate::results::stats::{self, Summary};

/// A number that several seeds have.
#[derive(Clone, Debug, Default)]
pub(super) struct Seeded {
    /// What each seed says. A method that learns nothing has one number, under its only seed.
    by_seed: BTreeMap<u64, f64>,
    /// The aggregate of the parts' means; `None` for what isn't an aggregate: there the seeds' mean is meant.
    of_means: Option<f64>,
}

impl Seeded {
    /// Takes one seed's number in.
    pub(super) fn add(&mut self, seed: u64, value: f64) {
        self.by_seed.insert(seed, value);
    }

    /// The mean of those parts that have a number.
    pub(super) fn average<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let parts: Vec<&Self> = parts.into_iter().filter(|part| part.mean().is_some()).collect();
        Self::aggregate(&parts, |values| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The harmonic mean of two parts, if both have a number.
    pub(super) fn harmonic(base: &Self, new: &Self) -> Self {
        Self::aggregate(&[base, new], |values| stats::harmonic_mean(values[0], values[1]))
    }

    /// What `aggregate` makes of all parts together.
    fn aggregate(parts: &[&Self], aggregate: impl Fn(&[f64]) -> f64) -> Self {
        let all = |number: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            let values: Vec<f64> = parts.iter().map(|part| number(part)).collect::<Option<_>>()?;
            (!values.is_empty()).then(|| aggregate(&values))
        };
        let seeds = parts.first().into_iter().flat_map(|part| part.by_seed.keys().copied());
        let by_seed = seeds.filter_map(|seed| Some((seed, all(&|part| part.by_seed.get(&seed).copied())?))).collect();
        Self { by_seed, of_means: all(&Self::mean) }
    }

    fn over_seeds(&self) -> Option<Summary> {
        Summary::of(&self.by_seed.values().copied().collect::<Vec<_>>())
    }

    fn mean(&self) -> Option<f64> {
        self.of_means.or_else(|| self.over_seeds().map(|summary| summary.mean))
    }

    /// Mean, deviation, and the seeds that the deviation is over: below two there is none.
    pub(super) fn summary(&self) -> Option<Summary> {
        let Summary { std, n, .. } = self.over_seeds().unwrap_or(Summary { mean: 0.0, std: 0.0, n: 1 });
        self.mean().map(|mean| Summary { mean, std, n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(values: &[(u64, f64)]) -> Seeded {
        let mut seeded = Seeded::default();
        for &(seed, value) in values {
            seeded.add(seed, value);
        }
        seeded
    }

    fn numbers(seeded: &Seeded) -> (f64, f64, usize) {
        seeded.summary().map(|Summary { mean, std, n }| (mean, std, n)).unwrap()
    }

    #[test]
    fn a_deviation_is_that_of_each_seed_s_own_aggregate() {
        // The parts of one seed rise where those of the other fall: their mean doesn't move at all.
        let (up, down) = (seeded(&[(1, 70.0), (2, 80.0)]), seeded(&[(1, 50.0), (2, 40.0)]));
        assert_eq!(numbers(&up), (75.0, 5.0, 2));
        assert_eq!(numbers(&Seeded::average([&up, &down])), (60.0, 0.0, 2));
        let same = seeded(&[(1, 50.0), (2, 60.0)]);
        assert_eq!(numbers(&Seeded::average([&up, &same])), (65.0, 5.0, 2));
    }

    #[test]
    fn a_harmonic_mean_is_that_of_the_means_and_deviates_as_the_seeds_own_do() {
        let (base, new) = (seeded(&[(1, 60.0), (2, 90.0)]), seeded(&[(1, 30.0), (2, 90.0)]));
        // By hand: of the means 75 and 60: 2·75·60/135; of the seeds: 2·60·30/90 = 40 and 90.
        let (mean, std, n) = numbers(&Seeded::harmonic(&base, &new));
        assert!((mean - 9000.0 / 135.0).abs() < 1e-12);
        assert_eq!((std, n), (25.0, 2));
    }

    #[test]
    fn aggregates_can_be_aggregated() {
        let two_seeds = |values: [f64; 2]| seeded(&[(1, values[0]), (2, values[1])]);
        let base = [[70.0, 80.0], [50.0, 60.0]].map(two_seeds);
        let new = [[40.0, 40.0], [20.0, 40.0]].map(two_seeds);
        let average = Seeded::harmonic(&Seeded::average(&base), &Seeded::average(&new));
        // Seed 1: 60 and 30, H = 40; seed 2: 70 and 40, H = 5600/110; the means: 65 and 35, H = 45.5.
        let (mean, std, n) = numbers(&average);
        assert!((mean - 45.5).abs() < 1e-12);
        assert!((std - (5600.0 / 110.0 - 40.0) / 2.0).abs() < 1e-12);
        assert_eq!(n, 2);
    }

    #[test]
    fn only_seeds_for_which_every_part_is_in_deviate() {
        let (three, two) = (seeded(&[(1, 10.0), (2, 20.0), (3, 90.0)]), seeded(&[(1, 10.0), (2, 40.0)]));
        assert_eq!(numbers(&Seeded::average([&three, &two])), (32.5, 10.0, 2));
        let (first, second) = (seeded(&[(1, 10.0)]), seeded(&[(2, 20.0)]));
        assert_eq!(numbers(&Seeded::average([&first, &second])), (15.0, 0.0, 1), "no seed is whole");
        let nothing = Seeded::default();
        assert_eq!(numbers(&Seeded::average([&two, &nothing])), (25.0, 15.0, 2), "what is missing is no part yet");
        assert_eq!(Seeded::harmonic(&two, &nothing).summary(), None);
        assert_eq!(Seeded::average([&nothing]).summary(), None);
    }
}
