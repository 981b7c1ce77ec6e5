//! What this machine must have before anything is fetched; each lack is one sentence that says what to do.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::wheels::TORCH_VERSION;

const PYTHON: &str = "python3";

/// Python 3, which downloads and unpacks.
pub(super) fn python() -> Command {
    Command::new(PYTHON)
}

/// Checks platform, Python, pip, C++ compiler and disk space; returns the compiler.
///
/// `space` is what a whole set-up needs, in bytes; what lies in `downloads` already is taken off.
pub(super) fn check(downloads: &Path, space: u64) -> Result<OsString> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")),
        "libtorch can be fetched for Linux on x86-64 only: install libtorch {TORCH_VERSION} for this machine and name \
         its folder in LIBTORCH"
    );
    ensure!(
        succeeds(python().args(["-c", "import sys; sys.exit(sys.version_info < (3, 8))"])),
        "Python 3.8 or later is missing: install it so that `{PYTHON}` starts it (Debian: python3)"
    );
    ensure!(
        succeeds(python().args(["-m", "pip", "--version"])),
        "pip is missing: install it for {PYTHON} (Debian: python3-pip, elsewhere `{PYTHON} -m ensurepip --user`)"
    );
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if !succeeds(Command::new(&compiler).arg("--version")) {
        bail!(
            "the C++ compiler `{}` is missing: install one (Debian: g++) or name it in CXX, for example CXX=clang++",
            compiler.display()
        );
    }
    check_space(downloads, space.saturating_sub(size_of_files(downloads)?))?;
    Ok(compiler)
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn size_of_files(folder: &Path) -> Result<u64> {
    fs_err::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

fn check_space(folder: &Path, needed: u64) -> Result<()> {
    let space =
        rustix::fs::statvfs(folder).with_context(|| format!("asking for the free space of {}", folder.display()))?;
    let free = space.f_bavail * space.f_frsize;
    ensure!(
        free >= needed,
        "too little disk space for {}: {} are needed during set-up and {} are free; free some, or clone onto a \
         larger disk",
        folder.display(),
        gigabytes(needed),
        gigabytes(free)
    );
    Ok(())
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_says_how_much_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        check_space(folder.path(), 0).unwrap();
        let error = check_space(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("18446744073.7 GB are needed"), "{error}");
    }
}
