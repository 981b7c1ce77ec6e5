//! What the frozen cache of a host holds, as far as it bears on the time that a job takes.
//!
//! The images of a job come and go together; those used least recently make room. Who reads while another still computes doesn't
//! get ahead of it. Reading and writing cost nothing besides what was measured for a warm step.

use promptfield_core::protocol::ClassSubset;

/// Images that several jobs see in the same batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Images {
    pub(super) dataset: String,
    pub(super) classes: ClassSubset,
    pub(super) batch: u32,
    /// Shots and seed of training images; `None` for the test images.
    pub(super) draw: Option<(u32, u64)>,
}

/// Images that a job goes through several times; a training sees others each time, by their augmentation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passes {
    pub(super) images: Images,
    pub(super) times: u32,
    /// What the images of one time take in the cache.
    pub(super) bytes: u64,
}

/// Seconds that go by each time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Each {
    /// When the cache doesn't hold the images.
    pub(super) cold: f64,
    /// When it does.
    pub(super) warm: f64,
}

/// One host's cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    budget: u64,
    used: u64,
    /// The most that was used.
    pub(super) most: u64,
    /// The least recently used first.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    images: Images,
    times: u32,
    bytes: u64,
    /// When whoever computed it began and ended.
    filled: [f64; 2],
}

impl Cache {
    /// An empty one that holds up to so many bytes.
    pub(super) const fn new(budget: u64) -> Self {
        Self { budget, used: 0, most: 0, entries: Vec::new() }
    }

    /// When a job is through with images that it begins at a time.
    pub(super) fn through(&mut self, passes: &Passes, each: Each, begin: f64) -> f64 {
        let place = self.entries.iter().position(|entry| entry.images == passes.images);
        let found = place.map(|place| self.entries.remove(place));
        self.used -= found.as_ref().map_or(0, |entry| entry.bytes);
        let known = found.as_ref().map_or(0, |entry| entry.times.min(passes.times));
        let mut end = begin + f64::from(known) * each.warm;
        if let Some(entry) = &found {
            let [from, until] = entry.filled;
            end = end.max(from + (until - from) * f64::from(known) / f64::from(entry.times));
        }
        end += f64::from(passes.times - known) * each.cold;
        self.keep(match found {
            Some(entry) if entry.times >= passes.times => entry,
            _ => Entry {
                images: passes.images.clone(),
                times: passes.times,
                bytes: passes.bytes * u64::from(passes.times),
                filled: [begin, end],
            },
        });
        end
    }

    fn keep(&mut self, entry: Entry) {
        if entry.bytes > self.budget {
            return;
        }
        while self.used + entry.bytes > self.budget {
            self.used -= self.entries.remove(0).bytes;
        }
        self.used += entry.bytes;
        self.most = self.most.max(self.used);
        self.entries.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a job is through that sees a seed's images so many times: 4 seconds each time if they are there, and else 10.
    fn through(cache: &mut Cache, seed: u64, times: u32, begin: u32) -> u32 {
        let draw = Some((16, seed));
        let images = Images { dataset: "dtd".to_owned(), classes: ClassSubset::All, batch: 32, draw };
        let passes = Passes { images, times, bytes: 100 };
        cache.through(&passes, Each { cold: 10.0, warm: 4.0 }, begin.into()).round() as u32
    }

    #[test]
    fn what_was_computed_is_not_computed_again() {
        let mut cache = Cache::new(u64::MAX);
        assert_eq!(through(&mut cache, 1, 5, 0), 50);
        assert_eq!(through(&mut cache, 1, 5, 100), 120);
        assert_eq!(through(&mut cache, 2, 5, 100), 150, "another seed's images are others");
        assert_eq!(through(&mut cache, 1, 7, 200), 240, "two more times are new");
        assert_eq!(through(&mut cache, 1, 6, 300), 324);
        assert_eq!(cache.most, 1200);
    }

    #[test]
    fn nobody_reads_what_is_yet_to_be_computed() {
        let mut cache = Cache::new(u64::MAX);
        assert_eq!(through(&mut cache, 1, 5, 0), 50);
        assert_eq!(through(&mut cache, 1, 5, 10), 50);
        assert_eq!(through(&mut cache, 1, 2, 10), 20);
        assert_eq!(through(&mut cache, 1, 5, 40), 60);
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut cache = Cache::new(1000);
        for (seed, begin, end) in [(1, 0, 50), (2, 100, 150), (1, 200, 220), (3, 300, 350)] {
            assert_eq!(through(&mut cache, seed, 5, begin), end, "seed {seed}");
        }
        assert_eq!(through(&mut cache, 2, 5, 400), 450, "it has made room");
        assert_eq!(through(&mut cache, 4, 11, 500), 610);
        assert_eq!(through(&mut cache, 4, 11, 700), 810, "more than the cache takes isn't kept");
        assert_eq!(through(&mut cache, 3, 5, 900), 920);
        assert_eq!(cache.most, 1000);
    }
}
