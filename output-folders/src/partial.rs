//! `….partial`, the folder beside an output folder in which one process at a time works.

use std::ffi::OsString;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::File;
use promptfield_core::job::layout::{LOCK_FILE, PARTIAL_SUFFIX};

use crate::file::with_suffix;

/// What became of an attempt to take hold of a folder.
#[derive(Debug)]
pub enum Lock {
    /// It is this process's until the file is closed.
    Held(File),
    /// The folder was renamed meanwhile, by whoever completed it.
    Gone,
    /// Another process has it; the text says which.
    Busy(String),
}

/// The folder in which an output folder is made.
pub fn of(output: &Path) -> PathBuf {
    with_suffix(output, PARTIAL_SUFFIX)
}

/// Takes hold of a `….partial` folder that is there: an exclusive lock on a file inside it, which says who has it.
pub fn lock(partial: &Path) -> io::Result<Lock> {
    let path = partial.join(LOCK_FILE);
    let mut options = File::options();
    let file = match options.create(true).truncate(false).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Gone),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs_err::read_to_string(&path).unwrap_or_default();
            return Ok(Lock::Busy(match holder.as_str() {
                "" => "another trainer".to_owned(),
                holder => holder.to_owned(),
            }));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let held = file.metadata()?;
    let is_here = fs_err::metadata(&path).is_ok_and(|here| (here.dev(), here.ino()) == (held.dev(), held.ino()));
    if !is_here {
        return Ok(Lock::Gone);
    }
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    fs_err::write(&path, format!("process {} on {}", std::process::id(), host.trim()))?;
    Ok(Lock::Held(file))
}

/// The names in the folder, but for the lock's.
pub fn leftovers(partial: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(partial)? {
        let name = entry?.file_name();
        if name != LOCK_FILE {
            names.push(name);
        }
    }
    Ok(names)
}

/// Renames `path` to the first free `<path>.aside-N`, and says which that was.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let aside = with_suffix(path, &format!(".aside-{number}"));
        if fs_err::symlink_metadata(&aside).is_err() {
            fs_err::rename(path, &aside)?;
            return Ok(aside);
        }
        number += 1;
    }
}
