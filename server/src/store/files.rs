//! The database's files: whether they are still those that were opened, and on what they lie.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::StoreError;

/// Files by what the file system knows them by: a path may lead to another one later.
#[derive(Debug)]
pub(super) struct Files(Vec<(PathBuf, Identity)>);

/// The device, and the number on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl From<Metadata> for Identity {
    fn from(metadata: Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

impl Files {
    /// Those of a database that has just been opened. Its lock keeps others from changing them, so it's known by its handle.
    pub(super) fn of(database: &Path, lock: &File) -> Result<Self, StoreError> {
        let lock_path = beside(database, ".lock");
        let lock = lock.metadata().map_err(gone(&lock_path))?.into();
        let opened = std::fs::metadata(database).map_err(gone(database))?.into();
        // What SQLite makes as it goes: what was committed last is in the log.
        let made = ["-wal", "-shm"].map(|more| beside(database, more)).into_iter();
        let made = made.filter_map(|path| std::fs::metadata(&path).ok().map(|metadata| (path, metadata.into())));
        Ok(Self([(database.to_owned(), opened), (lock_path, lock)].into_iter().chain(made).collect()))
    }

    /// Refuses to go on when one of them isn't where it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, opened) in &self.0 {
            let found: Identity = std::fs::metadata(path).map_err(gone(path))?.into();
            if found != *opened {
                return Err(StoreError::Replaced { name: name(path) });
            }
        }
        Ok(())
    }
}

fn gone(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let name = name(path);
    move |source| StoreError::Gone { name, source }
}

/// Whoever is told has no business with the folder.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path of a file beside the database, whose name goes on so.
pub(super) fn beside(database: &Path, more: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(more);
    path.into()
}

/// The network file system that a path lies on, or that a folder of it lies on that is there; `None` for a local one.
///
/// `SQLite`'s write-ahead log needs memory that all who have the database share, and locks that hold: a network promises neither.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    let there = path.ancestors().find(|path| path.exists())?;
    named(rustix::fs::statfs(there).ok()?.f_type as u32)
}

/// By the numbers of Linux's `statfs(2)`.
fn named(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x00c3_6400 => "CephFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0102_1997 => "9P",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_from_disks() {
        assert_eq!((named(0x6969), named(0xff53_4d42)), (Some("NFS"), Some("SMB")));
        // ext4, tmpfs, XFS, Btrfs, overlayfs.
        for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
            assert_eq!(named(local), None);
        }
        assert_eq!(network_file_system(Path::new("/proc/self/nothing/here")), None);
    }
}
