//! SHA-256 of weights files, kept from one process to the next: hashing gigabytes takes seconds, and every trainer asks.
//!
//! A hash is known by the file's device, inode, size and times. The list lies in the user's cache folder
//! (`$XDG_CACHE_HOME/promptfield/weights.json`, else `~/.cache/promptfield/weights.json`) and is replaced by renaming. Whoever
//! loses a race, can't write, or finds the list damaged hashes again; nothing else depends on it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use promptfield_core::job::spec::{hex, is_sha256};
use serde::{Deserialize, Serialize};

use super::weights::MappedFile;
use crate::file_state::FileState;

/// The most hashes that are kept; the oldest go first.
const MOST: usize = 1000;
/// A file that was changed more recently than that may be changed again without getting other times: some file systems count
/// in steps of two seconds. Git calls such entries of its index racy.
const SETTLED: Duration = Duration::from_secs(2);

/// The list of a user.
#[derive(Debug)]
pub(super) struct KeptHashes {
    /// Where it lies; `None` if there's no place for it.
    folder: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    file: FileState,
    sha256: String,
}

impl KeptHashes {
    /// That of the user who runs this process.
    pub(super) fn of_user() -> Self {
        // Relative paths are to be ignored (XDG Base Directory Specification).
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        Self { folder: caches.map(|caches| caches.join("promptfield")) }
    }

    /// SHA-256 of a file in hexadecimal, computed only if it isn't known.
    pub(super) fn sha256(&self, file: &MappedFile) -> io::Result<String> {
        self.sha256_at(file, SystemTime::now())
    }

    fn sha256_at(&self, file: &MappedFile, now: SystemTime) -> io::Result<String> {
        let state = FileState::from(&file.metadata()?);
        if let Some(known) = self.read().into_iter().rev().find(|kept| kept.file == state && is_sha256(&kept.sha256)) {
            return Ok(known.sha256);
        }
        let sha256 = hex(&file.sha256()?);
        if state.is_settled(now, SETTLED) && FileState::from(&file.metadata()?) == state {
            // What can't be kept is computed again.
            let _ = self.keep(Kept { file: state, sha256: sha256.clone() });
        }
        Ok(sha256)
    }

    fn read(&self) -> Vec<Kept> {
        let text = self.folder.as_deref().and_then(|folder| fs_err::read(path(folder)).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn keep(&self, new: Kept) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut all = self.read();
        all.retain(|kept| !kept.file.is_of_same(&new.file));
        all.push(new);
        all.drain(..all.len().saturating_sub(MOST));
        fs_err::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&all)?)?;
        file.persist(path(folder))?;
        Ok(())
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("weights.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list in a folder that isn't there yet, and a weights file.
    struct Room {
        root: tempfile::TempDir,
        hashes: KeptHashes,
    }

    impl Room {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let hashes = KeptHashes { folder: Some(root.path().join("cache/promptfield")) };
            let room = Self { root, hashes };
            room.write("first");
            room
        }

        fn file(&self) -> PathBuf {
            self.root.path().join("weights")
        }

        fn write(&self, text: &str) {
            fs_err::write(self.file(), text).unwrap();
        }

        fn list(&self) -> PathBuf {
            self.root.path().join("cache/promptfield/weights.json")
        }

        /// The hash, asked for so many seconds from now.
        fn sha256(&self, seconds: u64) -> String {
            let now = SystemTime::now() + Duration::from_secs(seconds);
            self.hashes.sha256_at(&MappedFile::open(&self.file()).unwrap(), now).unwrap()
        }

        /// Puts another hash in the place of each that is kept.
        fn plant(&self) {
            let text = fs_err::read_to_string(self.list()).unwrap();
            let mut list: Vec<Kept> = serde_json::from_str(&text).unwrap();
            for kept in &mut list {
                kept.sha256 = "7".repeat(64);
            }
            fs_err::write(self.list(), serde_json::to_vec(&list).unwrap()).unwrap();
        }
    }

    fn hash(text: &str) -> String {
        use sha2::Digest as _;
        hex(&sha2::Sha256::digest(text))
    }

    #[test]
    fn a_known_hash_is_not_computed_again_and_that_of_a_changed_file_is() {
        let room = Room::new();
        assert_eq!(room.sha256(10), hash("first"));
        room.plant();
        assert_eq!(room.sha256(10), "7".repeat(64));
        room.write("other");
        assert_eq!(room.sha256(10), hash("other"));
        let list: Vec<Kept> = serde_json::from_slice(&fs_err::read(room.list()).unwrap()).unwrap();
        assert_eq!(list.len(), 1, "a file has one entry");
        // Another file under the same name.
        fs_err::write(room.root.path().join("new"), "other").unwrap();
        fs_err::rename(room.root.path().join("new"), room.file()).unwrap();
        room.plant();
        assert_eq!(room.sha256(10), hash("other"));
    }

    #[test]
    fn the_hash_of_a_file_that_was_just_written_is_not_kept() {
        let room = Room::new();
        assert_eq!(room.sha256(0), hash("first"));
        assert!(!room.list().exists());
    }

    #[test]
    fn a_damaged_list_is_written_anew_and_a_folder_that_cannot_be_written_costs_nothing_else() {
        let room = Room::new();
        room.sha256(10);
        let whole = fs_err::read_to_string(room.list()).unwrap();
        for damaged in [&whole[..whole.len() - 1], "", "{}", "[1]", &whole.replace("sha256", "sha"), "\u{0}"] {
            fs_err::write(room.list(), damaged).unwrap();
            assert_eq!(room.sha256(10), hash("first"));
            assert_eq!(fs_err::read_to_string(room.list()).unwrap(), whole, "{damaged}");
        }
        // What is no hash.
        fs_err::write(room.list(), whole.replace(&hash("first"), "first")).unwrap();
        assert_eq!(room.sha256(10), hash("first"));

        for folder in [None, Some(room.file().join("below a file"))] {
            let hashes = KeptHashes { folder };
            let file = MappedFile::open(&room.file()).unwrap();
            assert_eq!(hashes.sha256(&file).unwrap(), hash("first"));
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let room = Room::new();
        room.sha256(10);
        let many = (0..MOST + 5).map(|inode| {
            serde_json::json!({
                "device": 1, "inode": inode, "size": 0, "modified": [0, 0], "changed": [0, 0],
                "sha256": hash(&inode.to_string()),
            })
        });
        fs_err::write(room.list(), serde_json::to_vec(&many.collect::<Vec<_>>()).unwrap()).unwrap();
        assert_eq!(room.sha256(10), hash("first"));
        let list = room.hashes.read();
        assert_eq!((list.len(), &*list[0].sha256, &*list[MOST - 1].sha256), (MOST, &*hash("6"), &*hash("first")));
    }

    #[test]
    fn those_who_write_at_the_same_time_leave_a_whole_list() {
        let room = Room::new();
        let paths: Vec<_> = (0..8).map(|index| room.root.path().join(format!("{index}"))).collect();
        for path in &paths {
            fs_err::write(path, path.to_str().unwrap()).unwrap();
        }
        let later = SystemTime::now() + Duration::from_secs(10);
        std::thread::scope(|scope| {
            for path in &paths {
                scope.spawn(|| room.hashes.sha256_at(&MappedFile::open(path).unwrap(), later).unwrap());
            }
        });
        let list: Vec<Kept> = serde_json::from_slice(&fs_err::read(room.list()).unwrap()).unwrap();
        assert!(!list.is_empty());
        for path in &paths {
            let found = room.hashes.sha256_at(&MappedFile::open(path).unwrap(), later).unwrap();
            assert_eq!(found, hash(path.to_str().unwrap()));
        }
    }
}
