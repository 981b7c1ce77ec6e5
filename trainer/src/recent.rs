//! What was used last, up to a number of bytes.

use std::collections::VecDeque;

/// Values by key, the latest used first. Those used least recently make room; the latest is kept in any case.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    budget: usize,
    kept: VecDeque<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K, V> {
    key: K,
    value: V,
    bytes: usize,
}

impl<K, V: Clone> Recent<K, V> {
    /// Nothing yet; all values together may take `budget` bytes.
    pub(crate) const fn new(budget: usize) -> Self {
        Self { budget, kept: VecDeque::new() }
    }

    /// The value whose key fits.
    pub(crate) fn get(&mut self, fits: impl Fn(&K) -> bool) -> Option<V> {
        let place = self.kept.iter().position(|kept| fits(&kept.key))?;
        let kept = self.kept.remove(place)?;
        let value = kept.value.clone();
        self.kept.push_front(kept);
        Some(value)
    }

    /// Keeps a value that takes so many bytes.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.kept.push_front(Kept { key, value, bytes });
        let mut total = 0;
        let within = |kept: &Kept<K, V>| {
            total += kept.bytes;
            total <= self.budget
        };
        let count = self.kept.iter().map(within).take_while(|within| *within).count();
        self.kept.truncate(count.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let mut recent = Recent::new(10);
        for key in [1, 2, 3] {
            recent.put(key, key * 10, 4);
            assert_eq!(recent.get(|kept| *kept == 1), Some(10));
        }
        assert_eq!([1, 2, 3].map(|key| recent.get(|kept| *kept == key)), [Some(10), None, Some(30)]);
        recent.put(4, 40, 99);
        assert_eq!([1, 3, 4].map(|key| recent.get(|kept| *kept == key)), [None, None, Some(40)]);
    }
}
