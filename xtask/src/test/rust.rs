//! The Rust tests of the whole workspace, doc tests included.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Report, Tally};
use crate::setup;
use crate::workspace::{Workspace, status};

/// What is tested, with what is off otherwise. A second selection would have cargo build half of the dependencies twice, with
/// other features.
const SELECTION: [&str; 3] = ["--workspace", "--features", "promptfield/otel"];

/// Builds all programs as the tests do: another selection would build half of the dependencies once more.
pub(crate) fn build_programs(workspace: &Workspace) -> Result<()> {
    let built = status(workspace.cargo().arg("build").args(SELECTION))?;
    ensure!(built.success(), "the build failed: see the messages above");
    Ok(())
}

pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    setup::run(workspace, &setup::Options::default())?;
    // Tests start the other packages' programs too: everything is built before the first runs.
    let built = status(workspace.cargo().arg("test").args(SELECTION).arg("--no-run"))?;
    ensure!(built.success(), "the build failed: see the messages above");
    test(workspace, &[]).map(Outcome::Ran)
}

/// Runs tests, all or those that further arguments name.
pub(super) fn test(workspace: &Workspace, arguments: &[&str]) -> Result<Report> {
    let mut child = workspace
        .cargo()
        .arg("test")
        .args(SELECTION)
        .arg("--no-fail-fast")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    let mut report = Report::default();
    for line in BufReader::new(child.stdout.take().context("cargo test has no output")?).split(b'\n') {
        let line = line.context("reading the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        report.read(&line);
    }
    let status = child.wait()?;
    if !status.success() && report.tally.failed == 0 {
        report.tally.failed = 1;
        report.failures.push(format!("cargo test ended with {status}: see its messages above"));
    }
    Ok(report)
}

impl Report {
    /// Takes one line of a test program's output into account.
    fn read(&mut self, line: &str) {
        if let Some(tally) = read_result(line) {
            self.tally += tally;
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
fn read_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for count in counts.split("; ") {
        let Some((number, what)) = count.split_once(' ') else {
            continue;
        };
        let place = match what {
            "passed" => &mut tally.passed,
            "failed" => &mut tally.failed,
            "ignored" => &mut tally.skipped,
            _ => continue,
        };
        *place = number.parse().ok()?;
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_add_up() {
        let mut report = Report::default();
        for line in [
            "running 3 tests",
            "test scheduler::a ... ok",
            "test scheduler::b ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s",
            "   Doc-tests promptfield_core",
            "test core/src/id.rs - Id (line 3) ... ok",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s; merged",
        ] {
            report.read(line);
        }
        assert_eq!(report.tally, Tally { passed: 13, failed: 1, skipped: 1 });
        assert_eq!(report.failures, ["scheduler::b"]);
    }

    #[test]
    fn a_line_that_only_talks_of_results_is_no_result() {
        assert_eq!(read_result("the test result: ok. 3 passed"), None);
    }
}
