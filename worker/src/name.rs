//! A worker's name, which no other live worker of its output root has.
//!
//! Who has a name holds a lock in its folder ([`crate::spool`]). A name whose lock is free belongs to a worker that has ended: whoever
//! takes it goes on in its place. A name whose lock is held belongs to one that lives.

use std::fs::TryLockError;
use std::io;
use std::path::Path;

use fs_err::File;
use promptfield_core::chain::chain;

use crate::spool;

const LOCK: &str = "lock";
/// So many workers of one name are enough for a machine.
const MOST: u32 = 1_000;

/// A name that is this process's until this is dropped.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) name: String,
    _lock: Option<File>,
}

impl Name {
    /// Takes a name, or the first of `NAME-2`, `NAME-3` and so on that no live worker has. Where the file system has no locks, the
    /// name itself.
    pub(crate) fn take(output_root: &Path, name: &str) -> io::Result<Self> {
        for number in 1..=MOST {
            let own = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let folder = spool::folder(output_root, &own);
            fs_err::create_dir_all(&folder)?;
            let lock = File::create(folder.join(LOCK))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    tracing::warn!("whether another worker has the name `{own}` can't be found out: {}", chain(&error));
                    return Ok(Self { name: own, _lock: None });
                }
            }
            if number > 1 {
                tracing::warn!("a worker of the name `{name}` is at work with this output root: this one is `{own}`");
            }
            return Ok(Self { name: own, _lock: Some(lock) });
        }
        Err(io::Error::other(format!("{MOST} workers of the name `{name}` are at work with this output root")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_lives_is_not_taken_and_one_that_has_ended_is() {
        let root = tempfile::tempdir().unwrap();
        let take = || Name::take(root.path(), "a/b").unwrap();
        let (first, second) = (take(), take());
        assert_eq!((first.name.as_str(), second.name.as_str()), ("a/b", "a/b-2"));
        drop(first);
        assert_eq!(take().name, "a/b");
        let third = take();
        assert_eq!(third.name, "a/b");
        assert_eq!((take().name, second.name.as_str()), ("a/b-3".to_owned(), "a/b-2"));
    }
}
