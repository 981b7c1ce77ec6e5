//! A program that is started now and then, whose file may be replaced meanwhile.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err::File;

/// A program as its file was when it was opened: an upgrade doesn't mix two versions.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    file: File,
    /// That it was replaced is said once.
    said: AtomicBool,
}

impl Program {
    /// Opens a program's file, which is kept open.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::open(path)?, said: AtomicBool::new(false) })
    }

    /// Where its file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path leads to another file now, or to none.
    pub fn is_replaced(&self) -> bool {
        let identity = |file: std::fs::Metadata| (file.dev(), file.ino());
        let here = std::fs::metadata(&self.path).ok().map(identity);
        self.file.metadata().is_ok_and(|opened| here != Some(identity(opened)))
    }

    /// The path by which it's started: as long as this lives, that is the program which was opened.
    pub fn to_run(&self) -> PathBuf {
        // Not `/proc/self`, which is another process to the interpreter of a script.
        let opened = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()));
        if !self.is_replaced() || !opened.exists() {
            return self.path.clone();
        }
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "`{}` was replaced or removed while it's in use: it goes on being started as it was; stop and start again for \
                 the new one",
                self.path.display()
            );
        }
        opened
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_is_what_was_opened_whatever_lies_there_later() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("program"), folder.path().join("new"));
        for (path, text) in [(&path, "#!/bin/sh\necho opened\n"), (&new, "#!/bin/sh\necho new\n")] {
            fs_err::write(path, text).unwrap();
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let program = Program::open(&path).unwrap();
        let says = || Command::new(program.to_run()).output().unwrap().stdout;
        assert_eq!(program.to_run(), path);
        assert!(!program.is_replaced());
        fs_err::rename(&new, &path).unwrap();
        assert!(program.is_replaced());
        assert_eq!(says(), b"opened\n");
        fs_err::remove_file(&path).unwrap();
        assert_eq!(says(), b"opened\n");
        assert!(Program::open(&path).is_err());
    }
}
