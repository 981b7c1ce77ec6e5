//! How often what goes wrong.

use crate::random::Random;

/// Rates and times of everything that can go wrong. Chances are per mille, times in milliseconds; 0 is never.
#[derive(Clone, Debug)]
pub(crate) struct Climate {
    /// Messages that are lost.
    pub(crate) lost: u64,
    /// Messages that arrive twice.
    pub(crate) doubled: u64,
    /// Messages that are late, and by how much at most: so they overtake each other.
    pub(crate) late: u64,
    pub(crate) latest: i64,
    /// Commits that take long, and how long at most.
    pub(crate) slow: u64,
    pub(crate) slowest: i64,
    /// Commits that fail; that fail, though the batch is in the database; before which the coordinator dies; after which it
    /// dies, before it could answer.
    pub(crate) unwritten: u64,
    pub(crate) doubtful: u64,
    pub(crate) dies_before: u64,
    pub(crate) dies_after: u64,
    /// The mean time between two deaths of the coordinator at any other moment, and the longest that it stays away.
    pub(crate) between_deaths: i64,
    pub(crate) longest_absence: i64,
    /// The mean time between two blows to workers: crashes, hangs, partitions, good-byes.
    pub(crate) between_blows: i64,
    /// The mean time between two whims of people.
    pub(crate) between_whims: i64,
    /// Attempts that fail by chance; jobs that fail in every attempt; jobs that kill their worker.
    pub(crate) fails: u64,
    pub(crate) bad: u64,
    pub(crate) poisoned: u64,
    /// Attempts beside others that run out of memory.
    pub(crate) crowded: u64,
    /// Jobs whose output is found.
    pub(crate) adopted: u64,
    /// Tests whose checkpoint is lost by chance; tests that never get one that they can use.
    pub(crate) astray: u64,
    pub(crate) unusable: u64,
    /// Workers that have other weights when they start.
    pub(crate) reweighted: u64,
    /// Workers whose machine can't use something when they start; attempts that find something of their job damaged, and those that
    /// find its folder in another's hands.
    pub(crate) unable: u64,
    pub(crate) damaged: u64,
    pub(crate) in_use: u64,
}

impl Climate {
    /// Nothing goes wrong.
    pub(crate) const fn fair() -> Self {
        Self {
            lost: 0,
            doubled: 0,
            late: 0,
            latest: 0,
            slow: 0,
            slowest: 0,
            unwritten: 0,
            doubtful: 0,
            dies_before: 0,
            dies_after: 0,
            between_deaths: 0,
            longest_absence: 0,
            between_blows: 0,
            between_whims: 0,
            fails: 0,
            bad: 0,
            poisoned: 0,
            crowded: 0,
            adopted: 0,
            astray: 0,
            unusable: 0,
            reweighted: 0,
            unable: 0,
            damaged: 0,
            in_use: 0,
        }
    }

    /// Anything may go wrong in a small world; each seed has its own troubles, and each trouble is sometimes absent.
    pub(crate) fn drawn(random: &mut Random) -> Self {
        let mut rate = |greatest: u64| if random.chance(300) { 0 } else { random.below(greatest + 1) };
        let (lost, doubled, late, slow) = (rate(120), rate(80), rate(200), rate(60));
        let (unwritten, doubtful, dies_before, dies_after) = (rate(30), rate(15), rate(8), rate(8));
        let (fails, bad, poisoned, adopted) = (rate(150), rate(60), rate(60), rate(100));
        let crowded = rate(200);
        let (astray, unusable, reweighted) = (rate(60), rate(40), rate(100));
        let (unable, damaged, in_use) = (rate(300), rate(40), rate(60));
        Self {
            lost,
            doubled,
            late,
            latest: random.between(50..=8_000),
            slow,
            slowest: random.between(50..=6_000),
            unwritten,
            doubtful,
            dies_before,
            dies_after,
            between_deaths: random.between(60_000..=600_000),
            longest_absence: random.between(1_000..=150_000),
            between_blows: random.between(5_000..=120_000),
            between_whims: random.between(2_000..=60_000),
            fails,
            bad,
            poisoned,
            crowded,
            adopted,
            astray,
            unusable,
            reweighted,
            unable,
            damaged,
            in_use,
        }
    }

    /// A large installation's bad day.
    pub(crate) const fn rough() -> Self {
        Self {
            lost: 5,
            doubled: 5,
            late: 20,
            latest: 3_000,
            slow: 5,
            slowest: 2_000,
            unwritten: 1,
            doubtful: 0,
            dies_before: 0,
            dies_after: 0,
            between_deaths: 900_000,
            longest_absence: 60_000,
            between_blows: 1_000,
            between_whims: 60_000,
            fails: 5,
            bad: 2,
            poisoned: 0,
            crowded: 1,
            adopted: 10,
            astray: 1,
            unusable: 0,
            reweighted: 0,
            unable: 5,
            damaged: 1,
            in_use: 1,
        }
    }

    /// What remains when the faults stop: what is wrong with the jobs themselves.
    pub(crate) const fn calmed(&self) -> Self {
        let Self { bad, poisoned, crowded, adopted, unusable, .. } = *self;
        Self { bad, poisoned, crowded, adopted, unusable, ..Self::fair() }
    }
}

/// A waiting time of the given mean, and at least one millisecond.
pub(crate) fn wait(random: &mut Random, mean: i64) -> i64 {
    random.between(1..=(2 * mean).max(1))
}
