//! Whether what lies at a path is still what was read there.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What the file system says of a file or a folder that changes when it's written or replaced; of a folder, when an entry is
/// added, removed or renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Unlike `modified` this can't be set, so that a copy which keeps the time of its source is seen too.
    changed: (i64, i64),
}

impl FileState {
    /// The state of what lies at `path`, behind links; `None` if nothing does.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&std::fs::metadata(path).ok()?))
    }

    /// Whether both are states of one file.
    pub(crate) fn is_of_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether it was left alone for so long before `now`.
    pub(crate) fn is_settled(&self, now: SystemTime, settled: Duration) -> bool {
        let before = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(settled);
        let before = (before.as_secs() as i64, i64::from(before.subsec_nanos()));
        self.modified.max(self.changed) <= before
    }
}

impl From<&Metadata> for FileState {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}
