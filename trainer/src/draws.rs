//! Every random number of a run.
//!
//! Rule of this room: no generator is carried along. Each draw derives from what it is for, the run's seed, the data set
//! and its place (epoch, step, …), so that a run that was interrupted, or a batch that is loaded by another thread,
//! sees the same numbers. The method is not part of it: all methods see the same pixels in the same order.
//!
//! The generator is `ChaCha8`, keyed by the SHA-256 of those things; its output is fixed by the algorithm, not by the
//! version of a crate. (The few-shot selection is another matter: it must be Python's, see
//! [`crate::data::cpython_random`].)

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// A stream of random numbers for one purpose at one place of a run.
#[derive(Clone, Debug)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// The stream for `purpose` under the run's `seed` and data set, at the place that `counters` tell.
    pub fn new(purpose: &str, seed: u64, dataset: &str, counters: &[u64]) -> Self {
        let mut key = Sha256::new();
        for text in ["promptfield draws 1", purpose, dataset] {
            key.update((text.len() as u64).to_le_bytes());
            key.update(text);
        }
        key.update(seed.to_le_bytes());
        for counter in counters {
            key.update(counter.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key.finalize().into()))
    }

    /// A number from [0, 1), of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from [`low`, `high`).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A whole number from 0 to `bound` − 1, each equally likely. `bound` must be above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Numbers past the last whole multiple of `bound` would favour small results: draw again.
        let last = u64::MAX - (u64::MAX % bound + 1) % bound;
        loop {
            let number = self.0.next_u64();
            if number <= last {
                return number % bound;
            }
        }
    }

    /// A number from the standard normal distribution (Box and Muller's transform, its cosine half).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The order in which an epoch (counted from 0) goes through `n` training images: a permutation of 0..n.
pub fn epoch_order(seed: u64, dataset: &str, epoch: u32, n: usize) -> Vec<usize> {
    let mut draws = Draws::new("epoch order", seed, dataset, &[u64::from(epoch)]);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, draws.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_and_differ_by_each_part_of_their_key() {
        let first =
            |purpose, seed, dataset, counters: &[u64]| Draws::new(purpose, seed, dataset, counters).0.next_u64();
        let base = first("crop", 1, "dtd", &[0, 0]);
        assert_eq!(
            base, 1_751_675_272_823_140_163,
            "the algorithm is fixed: a change would give every run other pixels"
        );
        assert_eq!(base, first("crop", 1, "dtd", &[0, 0]));
        for other in [
            first("flip", 1, "dtd", &[0, 0]),
            first("crop", 2, "dtd", &[0, 0]),
            first("crop", 1, "ucf101", &[0, 0]),
            first("crop", 1, "dtd", &[0, 1]),
            first("crop", 1, "dtd", &[0]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn numbers_stay_in_range_and_fill_it() {
        let mut draws = Draws::new("test", 7, "", &[]);
        let mut counts = [0_u32; 3];
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..30_000 {
            counts[draws.below(3) as usize] += 1;
            let uniform = draws.between(2.0, 3.0);
            assert!((2.0..3.0).contains(&uniform));
            let normal = draws.normal();
            sum += normal;
            squares += normal * normal;
        }
        assert!(counts.iter().all(|count| (9_700..10_300).contains(count)), "{counts:?}");
        assert!((sum / 30_000.0).abs() < 0.03 && (squares / 30_000.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn an_epoch_sees_each_image_once_in_its_own_order() {
        let first = epoch_order(1, "dtd", 0, 50);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_ne!(first, sorted);
        assert_ne!(first, epoch_order(1, "dtd", 1, 50));
        assert_eq!(first, epoch_order(1, "dtd", 0, 50));
        assert!(epoch_order(1, "dtd", 0, 0).is_empty());
    }
}
