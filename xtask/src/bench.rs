//! `cargo xtask bench`: measurements beside peers, optimised.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::workspace::{Workspace, exit_code, status};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// What the coordinator adds to a job
    Coordinator,
}

/// Builds what is measured and what measures, and runs the latter; the exit code is its own.
pub(crate) fn run(workspace: &Workspace, name: Name, arguments: &[String]) -> Result<ExitCode> {
    let Name::Coordinator = name;
    let packages = ["--package", "promptfield", "--package", "promptfield-bench"];
    let built = status(workspace.cargo().args(["build", "--release"]).args(packages))?;
    ensure!(built.success(), "the build failed: see the messages above");
    let target = workspace.target_directory()?;
    // A temporary folder of the system may lie in memory, where nothing needs to be synced.
    let folder = target.join("bench");
    fs_err::create_dir_all(&folder)?;
    let mut program = workspace.command(target.join("release/promptfield-bench"));
    Ok(exit_code(status(program.arg("coordinator").arg("--folder").arg(folder).args(arguments))?))
}
