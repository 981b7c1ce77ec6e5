//! Files that are whole whenever they have their names, and their hashes.

use std::fs::Permissions;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err::File;
use promptfield_core::job::outcome::FileEntry;
use promptfield_core::job::spec::hex;
use sha2::{Digest as _, Sha256};

/// Writes a file so that it holds either what it held before or all of `bytes`, whenever the machine stops. Only one process at a
/// time may write it: until it has its name it is `<path>.new`.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(&with_suffix(path, ".new"), path, bytes)
}

/// The same by a file of another name, on the same file system.
pub fn replace_by(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// The same where several may write it: until it has its name, it has one of its own in `folder`, which is made if it isn't
/// there. Whoever may read other files may read it.
pub fn replace_from(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs_err::create_dir_all(folder)?;
    let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    // Removed if it isn't renamed.
    let temporary = file.into_temp_path();
    replace_by(&temporary, path, bytes)
}

/// Syncs the names in a folder to the disk; the empty path is the folder that the process works in.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// The SHA-256 of bytes in lower-case hexadecimal, as a manifest has it.
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A file's length in bytes and its hash. After each block that was read, `on_block` is called.
pub fn digest(file: &mut File, on_block: fn()) -> io::Result<FileEntry> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(FileEntry { sha256: hex(&hasher.finalize()), bytes });
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        on_block();
    }
}

/// A path whose last name has a suffix more.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.json");
        let cache = root.path().join("cache");
        for (text, write) in [
            ("one", replace as fn(&Path, &[u8]) -> io::Result<()>),
            ("two", |path, bytes| replace_by(&path.with_extension("partial"), path, bytes)),
            ("three", |path, bytes| replace_from(&path.with_file_name("cache"), path, bytes)),
        ] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs_err::read_dir(root.path()).unwrap().count(), 2);
        // One that can't have its name is removed.
        assert!(replace_from(&cache, &root.path().join("absent/a.json"), b"four").is_err());
        assert_eq!(fs_err::read_dir(&cache).unwrap().count(), 0);
    }

    #[test]
    fn a_files_hash_is_that_of_its_bytes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs_err::write(&path, "abc").unwrap();
        let entry = digest(&mut File::open(&path).unwrap(), || ()).unwrap();
        assert_eq!(entry, FileEntry { sha256: sha256_of(b"abc"), bytes: 3 });
        // NIST's SHA-256 example for "abc".
        assert!(entry.sha256.starts_with("ba7816bf8f01cfea"));
    }
}
