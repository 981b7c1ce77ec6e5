//! Python's `random.Random`, as far as few-shot selection needs it, number for number.
//!
//! Published few-shot results rest on the images that Python's Mersenne Twister picked, so the seeding, the way of
//! drawing below a bound, `sample` and `shuffle` are those of `CPython` 3 (unchanged since 3.2, `sample` since 3.3).

use std::collections::HashSet;

use rand_mt::Mt;

/// A generator in the state that `random.seed(seed)` leaves.
#[derive(Clone, Debug)]
pub struct CPythonRandom(Mt);

impl CPythonRandom {
    /// Seeds as `random.seed` does with a whole number: the twister takes its 32-bit words, the lowest first.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        Self(if high == 0 { Mt::new_with_key([low]) } else { Mt::new_with_key([low, high]) })
    }

    /// `random.getrandbits(bits)` for 1 to 64 bits.
    pub fn getrandbits(&mut self, bits: u32) -> u64 {
        let first = u64::from(self.0.next_u32());
        if bits <= 32 {
            return first >> (32 - bits);
        }
        let high = u64::from(self.0.next_u32()) >> (64 - bits);
        high << 32 | first
    }

    /// A number from 0 to `bound` − 1 (`_randbelow`): draws of as many bits as `bound` has, until one is below it.
    /// `bound` must be above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        loop {
            let number = self.getrandbits(bits) as usize;
            if number < bound {
                return number;
            }
        }
    }

    /// `random.sample(range(n), k)`: `k` different numbers below `n`, in the order in which they were drawn. `k` must not
    /// be above `n`.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        // Python keeps a pool where that takes less memory than a set of the numbers drawn so far.
        let mut set_size = 21;
        if k > 5 {
            let mut power = 1;
            while power < 3 * k {
                power *= 4;
            }
            set_size += power;
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|drawn| {
                    let index = self.below(n - drawn);
                    let number = pool[index];
                    pool[index] = pool[n - drawn - 1];
                    number
                })
                .collect();
        }
        let mut selected = HashSet::with_capacity(k);
        (0..k)
            .map(|_| {
                loop {
                    let number = self.below(n);
                    if selected.insert(number) {
                        return number;
                    }
                }
            })
            .collect()
    }

    /// `random.shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let index = self.below(last + 1);
            items.swap(last, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        draws: Vec<Draws>,
    }

    #[derive(Deserialize)]
    struct Draws {
        seed: String,
        bits: Vec<String>,
        samples: Vec<(usize, usize, Vec<usize>)>,
        shuffled: Vec<usize>,
    }

    /// Against `tests/reference/sampling/make.py`, in the same order of calls.
    #[test]
    fn numbers_are_those_of_cpython() {
        let golden: Golden = serde_json::from_str(include_str!("../../tests/reference/sampling/golden.json")).unwrap();
        assert!(golden.draws.len() > 10);
        for expected in golden.draws {
            let mut random = CPythonRandom::new(expected.seed.parse().unwrap());
            for (bits, number) in [1, 7, 31, 32, 33, 53, 64].into_iter().zip(expected.bits) {
                assert_eq!(random.getrandbits(bits).to_string(), number, "seed {}", expected.seed);
            }
            for (n, k, sample) in expected.samples {
                assert_eq!(random.sample(n, k), sample, "seed {}: {k} of {n}", expected.seed);
            }
            let mut items: Vec<usize> = (0..30).collect();
            random.shuffle(&mut items);
            assert_eq!(items, expected.shuffled, "seed {}", expected.seed);
        }
    }
}
