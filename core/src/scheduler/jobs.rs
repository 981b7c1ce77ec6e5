//! All jobs, by identifier and by identity, in little memory.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::JobRecord;
use crate::id::{ExperimentId, JobId};
use crate::job::spec::SpecHash;

/// A job with what points at it.
#[derive(Debug, PartialEq)]
pub(super) struct JobEntry {
    pub(super) record: JobRecord,
    /// The jobs that test this one's checkpoint.
    pub(super) dependents: SmallVec<[JobId; 1]>,
    /// The experiments that want it, each once, oldest first.
    pub(super) experiments: SmallVec<[ExperimentId; 1]>,
}

/// Identifiers are handed out one after the other and never taken back: job `n` is the `n`-th.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    entries: Vec<JobEntry>,
    /// Identifiers only: the identity lies in the job, and is uniformly distributed as it is.
    by_hash: HashTable<JobId>,
}

impl Jobs {
    pub(super) fn get(&self, id: JobId) -> Option<&JobEntry> {
        self.entries.get(place(id)?)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut JobEntry> {
        self.entries.get_mut(place(id)?)
    }

    pub(super) fn with_hash(&self, hash: SpecHash) -> Option<JobId> {
        self.by_hash.find(digest(hash), |id| self.hash_of(*id) == Some(hash)).copied()
    }

    pub(super) const fn next_id(&self) -> JobId {
        JobId(self.entries.len() as u64 + 1)
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
        self.by_hash.reserve(more, digest_in(&self.entries));
    }

    /// Adds a job, whose identifier is [`Jobs::next_id`].
    pub(super) fn push(&mut self, record: JobRecord) {
        debug_assert_eq!(record.id, self.next_id());
        let (id, hash) = (record.id, record.hash);
        self.entries.push(JobEntry { record, dependents: SmallVec::new(), experiments: SmallVec::new() });
        self.by_hash.insert_unique(digest(hash), id, digest_in(&self.entries));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &JobEntry> {
        self.entries.iter()
    }

    fn hash_of(&self, id: JobId) -> Option<SpecHash> {
        self.get(id).map(|entry| entry.record.hash)
    }
}

fn place(id: JobId) -> Option<usize> {
    usize::try_from(id.0.checked_sub(1)?).ok()
}

/// Where the table keeps a job, for when it grows.
fn digest_in(entries: &[JobEntry]) -> impl Fn(&JobId) -> u64 {
    |id| place(*id).and_then(|place| entries.get(place)).map_or(0, |entry| digest(entry.record.hash))
}

fn digest(hash: SpecHash) -> u64 {
    hash.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
