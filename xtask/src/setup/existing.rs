//! A libtorch that the user brought along: found by the variables that the `tch` binding reads.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::wheels::TORCH_VERSION;

/// Where the environment says libtorch is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// `LIBTORCH_USE_PYTORCH`: the torch of the user's Python.
    PyTorch,
    /// `LIBTORCH`: a folder with `include/` and `lib/`.
    Folder(PathBuf),
}

/// The user's libtorch, if the environment names one; `own` is the folder that `.cargo/config.toml` puts into
/// `LIBTORCH` where the user didn't.
pub(super) fn from_environment(own: &Path) -> Option<Existing> {
    choose(env::var_os("LIBTORCH_USE_PYTORCH"), env::var_os("LIBTORCH"), own)
}

fn choose(use_pytorch: Option<OsString>, libtorch: Option<OsString>, own: &Path) -> Option<Existing> {
    // The binding asks only whether it's set.
    if use_pytorch.is_some() {
        return Some(Existing::PyTorch);
    }
    libtorch.map(PathBuf::from).filter(|folder| folder != own).map(Existing::Folder)
}

impl Existing {
    /// Says what was found, or what's wrong with it.
    pub(super) fn check(&self) -> Result<String> {
        match self {
            Self::PyTorch => check_pytorch(),
            Self::Folder(folder) => {
                for needed in ["include", "lib/libtorch_cpu.so"] {
                    ensure!(
                        folder.join(needed).exists(),
                        "LIBTORCH={} has no {needed}: name a folder with libtorch {TORCH_VERSION} in it, or unset \
                         LIBTORCH to have it fetched",
                        folder.display()
                    );
                }
                Ok(format!("using the libtorch in {} (LIBTORCH)", folder.display()))
            }
        }
    }
}

fn check_pytorch() -> Result<String> {
    // The binding makes the same choice.
    let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let output = Command::new(python)
        .args(["-c", "import torch; print(torch.__version__)"])
        .output()
        .with_context(|| format!("LIBTORCH_USE_PYTORCH is set, but {python} can't be started"))?;
    if !output.status.success() {
        bail!(
            "LIBTORCH_USE_PYTORCH is set, but {python} can't import torch: install torch {TORCH_VERSION} there, or \
             unset LIBTORCH_USE_PYTORCH to have libtorch fetched"
        );
    }
    let version = String::from_utf8_lossy(&output.stdout);
    Ok(format!("using torch {} of {python} (LIBTORCH_USE_PYTORCH)", version.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_setting_libtorch_is_not_the_user_setting_it() {
        let own = Path::new("/clone/.deps/libtorch");
        assert_eq!(choose(None, None, own), None);
        assert_eq!(choose(None, Some(own.into()), own), None);
        assert_eq!(choose(None, Some("/opt/libtorch".into()), own), Some(Existing::Folder("/opt/libtorch".into())));
    }

    #[test]
    fn the_users_pytorch_wins_over_a_folder() {
        let chosen = choose(Some("1".into()), Some("/opt/libtorch".into()), Path::new("/own"));
        assert_eq!(chosen, Some(Existing::PyTorch));
    }

    #[test]
    fn a_folder_without_the_library_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("include")).unwrap();
        let error = Existing::Folder(folder.path().into()).check().unwrap_err().to_string();
        assert!(error.contains("has no lib/libtorch_cpu.so"), "{error}");
    }
}
