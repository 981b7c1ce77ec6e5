//! The trainer against an independent implementation in Python.

use std::process::Stdio;

use anyhow::{Context, Result};

use super::{Outcome, Report, Tally};
use crate::setup;
use crate::workspace::Workspace;

const SCRIPT: &str = "trainer/tests/reference/check.sh";
/// The script's exit code for "what I need isn't here"; its last line of output is the reason.
const SKIPPED: i32 = 77;

pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    if !workspace.root().join(SCRIPT).exists() {
        return Ok(Outcome::Skipped(format!("{SCRIPT} isn't there")));
    }
    setup::run(workspace, &setup::Options::default())?;
    let output = workspace
        .command("bash")
        .arg(SCRIPT)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {SCRIPT}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    Ok(match output.status.code() {
        Some(0) => Outcome::Ran(Report { tally: Tally { passed: 1, ..Tally::default() }, failures: Vec::new() }),
        Some(SKIPPED) => Outcome::Skipped(said.trim().lines().last().unwrap_or("it gave no reason").to_owned()),
        _ => Outcome::Ran(Report {
            tally: Tally { failed: 1, ..Tally::default() },
            failures: vec![format!("{SCRIPT} ended with {}", output.status)],
        }),
    })
}
