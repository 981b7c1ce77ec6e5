//! `cargo xtask demo`: from a fresh clone to the first result table.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::setup;
use crate::workspace::{Workspace, exit_code, status};

const EXPERIMENT: &str = "configs/experiments/demo.toml";

/// Sets up, builds and runs the bundled experiment; the exit code is the experiment's.
pub(crate) fn run(workspace: &Workspace, serve: bool) -> Result<ExitCode> {
    let started = Instant::now();
    setup::run(workspace, &setup::Options::default())?;
    let set_up = started.elapsed();

    eprintln!("building; the first time takes about 5 minutes on two cores");
    let started = Instant::now();
    workspace.build_programs()?;
    let built = started.elapsed();

    let started = Instant::now();
    let binary = workspace.target_directory()?.join("debug/promptfield");
    let verb = if serve { "up" } else { "run" };
    let ran = status(workspace.command(binary).args([verb, EXPERIMENT]))?;
    let [set_up, built, ran_for] = [set_up, built, started.elapsed()].map(|phase| phase.as_secs_f64());
    eprintln!("set-up {set_up:.0} s, build {built:.0} s, experiment {ran_for:.0} s");
    Ok(exit_code(ran))
}
