//! `cargo xtask setup`: libtorch, from where the environment says or else from wheels into `.deps/`.
//!
//! A libtorch that the user names wins and nothing is fetched. Otherwise the pinned wheels are downloaded
//! (`download`), what a build needs is unpacked into a sibling folder and renamed into place (`layout`): the
//! folder is complete or absent, whenever the process is stopped. One set-up runs at a time.

mod download;
mod existing;
mod layout;
mod machine;
mod pip;
mod wheels;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::workspace::{Workspace, status};
use layout::{Layout, Variant};

/// Options of `cargo xtask setup`.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Fetch the CUDA libraries too (2.5 GB to download, 3.7 GB unpacked)
    #[arg(long)]
    cuda: bool,
    /// Use another folder than .deps/
    #[arg(long, value_name = "FOLDER", hide = true)]
    deps: Option<PathBuf>,
}

/// Makes sure that there is a libtorch to build with.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let own = workspace.root().join(".deps");
    if let Some(existing) = existing::from_environment(&own.join("libtorch")) {
        let found = existing.check()?;
        eprintln!("{found}: nothing to fetch");
        return Ok(());
    }

    let deps = options.deps.as_ref().unwrap_or(&own);
    let wanted = if options.cuda { Variant::Cuda } else { Variant::Cpu };
    let layout = Layout::new(deps);
    if layout.holds(wanted) {
        eprintln!("libtorch {} is in place: {}", wheels::TORCH_VERSION, layout.folder().display());
        return Ok(());
    }

    fs_err::create_dir_all(deps)?;
    let lock = lock(deps)?;
    // Whoever held the lock may have done the work.
    if layout.holds(wanted) {
        return Ok(());
    }
    let started = Instant::now();
    let downloads = deps.join("download");
    fs_err::create_dir_all(&downloads)?;
    let compiler = machine::check(&downloads, wanted.space())?;
    eprintln!("fetching libtorch {} into {}", wheels::TORCH_VERSION, deps.display());
    let wheels = match wanted {
        Variant::Cpu => wheels::cpu(&downloads)?,
        Variant::Cuda => wheels::with_cuda(&downloads)?,
    };
    for wheel in &wheels {
        download::fetch(wheel, &downloads)?;
    }
    let relink = layout.install(wanted, &wheels, &downloads, &compiler, &lock)?;
    fs_err::remove_dir_all(&downloads)?;
    if relink {
        relink_torch(workspace)?;
    }
    eprintln!(
        "libtorch {} is ready after {:.0} s: {}",
        wheels::TORCH_VERSION,
        started.elapsed().as_secs_f64(),
        layout.folder().display()
    );
    Ok(())
}

/// The binding decides what to link when it's built and doesn't watch the folder, so a change between the CPU and
/// the CUDA libraries has to make cargo build it again.
fn relink_torch(workspace: &Workspace) -> Result<()> {
    for profile in ["dev", "release"] {
        status(workspace.cargo().args(["clean", "--quiet", "--package", "torch-sys"]).args(["--profile", profile]))?;
    }
    Ok(())
}

/// Held until dropped; waits for another set-up that is under way.
fn lock(deps: &Path) -> Result<File> {
    let path = deps.join("lock");
    let file = fs_err::File::create(&path)?.into_parts().0;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("waiting for another set-up to finish"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("locking {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}
