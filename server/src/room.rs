//! Whether there is room on the disks.

use std::path::PathBuf;

/// The folders that grow, and how much room each must have.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// What lies there, and where.
    pub(crate) folders: Vec<(&'static str, PathBuf)>,
    /// In bytes.
    pub(crate) least: u64,
}

/// Why there is no room.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    /// A disk is full, or nearly.
    #[error("the disk of the {what} has {free} bytes free, and the coordinator needs {least}: make room")]
    TooLittle { what: &'static str, free: u64, least: u64 },
    /// The operating system doesn't say.
    #[error("can't ask how much room the {what} has")]
    Unknown { what: &'static str, source: rustix::io::Errno },
}

impl Room {
    /// Asks the operating system; may wait for a disk.
    pub(crate) fn check(&self) -> Result<(), RoomError> {
        let least = self.least;
        for (what, path) in &self.folders {
            let disk = rustix::fs::statvfs(path).map_err(|source| RoomError::Unknown { what, source })?;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < least {
                return Err(RoomError::TooLittle { what, free, least });
            }
        }
        Ok(())
    }
}
