//! What happened: a digest of all of it, and as much of the text as is wanted.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// How much of the history becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// None.
    Silent,
    /// The last so many lines, for whoever asks in the end.
    Keep(usize),
    /// Every line, on standard output.
    Print,
}

/// All that happened.
#[derive(Debug)]
pub(crate) struct History {
    digest: Digest,
    lines: u64,
    talk: Talk,
    kept: VecDeque<String>,
}

impl History {
    pub(crate) fn new(talk: Talk) -> Self {
        Self { digest: Digest::default(), lines: 0, talk, kept: VecDeque::new() }
    }

    /// Notes something that happened at `at`, in milliseconds.
    pub(crate) fn note(&mut self, at: i64, what: impl Debug + Hash) {
        self.lines += 1;
        at.hash(&mut self.digest);
        what.hash(&mut self.digest);
        let keep = match self.talk {
            Talk::Silent => return,
            Talk::Keep(keep) => keep,
            Talk::Print => 0,
        };
        let line = format!("{:>10}.{:03} s  {what:?}", at / 1000, at % 1000);
        if keep == 0 {
            println!("{line}");
            return;
        }
        if self.kept.len() == keep {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn kept(&self) -> Vec<String> {
        self.kept.iter().cloned().collect()
    }
}

/// A hash that is the same on every machine and in every version of the compiler's library.
#[derive(Clone, Debug, Default)]
struct Digest(u64);

impl Digest {
    const fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.word(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_orders_and_times_apart() {
        let digest = |lines: &[(i64, &str)]| {
            let mut history = History::new(Talk::Silent);
            for (at, what) in lines {
                history.note(*at, what);
            }
            history.digest()
        };
        let first = digest(&[(1, "a"), (2, "b")]);
        assert_eq!(first, digest(&[(1, "a"), (2, "b")]));
        for other in [digest(&[(2, "b"), (1, "a")]), digest(&[(1, "a"), (3, "b")]), digest(&[(1, "a")])] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut history = History::new(Talk::Keep(2));
        (0..5).for_each(|at| history.note(at * 1500, at));
        assert_eq!(history.kept(), ["         4.500 s  3", "         6.000 s  4"]);
        assert_eq!(history.lines(), 5);
    }
}
