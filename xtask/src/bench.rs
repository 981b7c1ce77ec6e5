//! `cargo xtask bench`: measurements beside peers, optimised.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::setup;
use crate::workspace::{Workspace, exit_code, status};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// What the coordinator adds to a job
    Coordinator,
    /// What whole matrices take
    Matrix,
    /// What a matrix takes on a Slurm cluster
    Slurm,
    /// What a training step takes
    Trainer,
}

/// Builds what is measured and what measures, and runs the latter; the exit code is its own.
pub(crate) fn run(workspace: &Workspace, name: Name, arguments: &[String]) -> Result<ExitCode> {
    // The trainer's own code and libtorch are optimised in either profile, and nearly all of a step is libtorch's. The demo matrix
    // is built as `cargo xtask demo` builds it.
    let (name, programs, profile) = match name {
        Name::Coordinator => ("coordinator", &["promptfield"][..], "release"),
        Name::Matrix => ("matrix", &["promptfield", "promptfield-trainer"][..], "dev"),
        Name::Slurm => ("slurm", &["promptfield", "promptfield-trainer"][..], "dev"),
        Name::Trainer => ("trainer", &["promptfield-trainer"][..], "dev"),
    };
    if programs.contains(&"promptfield-trainer") {
        setup::run(workspace, &setup::Options::default())?;
    }
    let packages = programs.iter().chain(&["promptfield-bench"]).flat_map(|program| ["--package", program]);
    let built = status(workspace.cargo().arg("build").args(packages).args(["--profile", profile]))?;
    ensure!(built.success(), "the build failed: see the messages above");
    let target = workspace.target_directory()?;
    // A temporary folder of the system may lie in memory, where nothing needs to be synced.
    let folder = target.join("bench");
    fs_err::create_dir_all(&folder)?;
    let output = target.join(if profile == "dev" { "debug" } else { profile });
    let mut program = workspace.command(output.join("promptfield-bench"));
    Ok(exit_code(status(program.arg(name).arg("--folder").arg(folder).args(arguments))?))
}
