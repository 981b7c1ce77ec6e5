//! `cargo xtask simulate`: the simulator, optimised; and as a group of tests, as much of it as every change should pass.

use std::process::{ExitCode, ExitStatus};

use anyhow::Result;

use crate::test::{Outcome, Report, Tally};
use crate::workspace::{Workspace, exit_code, status};

/// The runs that must pass, by what the simulator is told.
const RUNS: [&[&str]; 2] = [&["--seeds", "0..300"], &["--jobs", "1000000", "--workers", "10000"]];

/// Builds and runs the simulator; the exit code is its own.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    Ok(exit_code(simulator(workspace, arguments)?))
}

/// Runs what must pass; each run counts as one test.
pub(crate) fn test(workspace: &Workspace) -> Result<Outcome> {
    let mut report = Report::default();
    for arguments in RUNS {
        let passed = simulator(workspace, arguments)?.success();
        report.tally += Tally { passed: passed.into(), failed: (!passed).into(), skipped: 0 };
        if !passed {
            report.failures.push(format!("cargo xtask simulate {}: see its messages above", arguments.join(" ")));
        }
    }
    Ok(Outcome::Ran(report))
}

fn simulator(workspace: &Workspace, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<ExitStatus> {
    let package = ["run", "--release", "--package", "promptfield-simulator", "--"];
    status(workspace.cargo().args(package).args(arguments))
}
