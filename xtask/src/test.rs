//! `cargo xtask test`: every kind of test behind one command, summed up in one line.
//!
//! A group is one entry of `GROUPS`. A group that needs something which can't be had on this machine says so
//! and is skipped; with `CI=true` that is a failure.

mod reference;
pub(crate) mod rust;
mod slurm;

use std::ops::AddAssign;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{deploy, openapi, simulate, tidy, web};

/// A kind of test.
struct Group {
    name: &'static str,
    run: fn(&Workspace) -> Result<Outcome>,
}

const GROUPS: &[Group] = &[
    Group { name: "tidy", run: tidy::run },
    Group { name: "web", run: web::test },
    Group { name: "rust", run: rust::run },
    Group { name: "simulate", run: simulate::test },
    Group { name: "deploy", run: deploy::test },
    Group { name: "openapi", run: openapi::test },
    Group { name: "browser", run: web::test_in_browser },
    Group { name: "slurm", run: slurm::run },
    Group { name: "reference", run: reference::run },
];

/// What became of a group.
pub(crate) enum Outcome {
    Ran(Report),
    /// With the reason.
    Skipped(String),
}

/// Counts of single tests, and the failures by name or with what to do about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) tally: Tally,
    pub(crate) failures: Vec<String>,
}

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

pub(crate) fn group_names() -> Vec<&'static str> {
    GROUPS.iter().map(|group| group.name).collect()
}

/// Runs the named groups, or all; prints each one's outcome and, last on stdout, the sum.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> ExitCode {
    let strict = std::env::var_os("CI").is_some_and(|value| value == "true");
    let mut sum = Tally::default();
    let mut summary = Vec::new();
    for group in GROUPS {
        if !names.is_empty() && !names.iter().any(|name| name == group.name) {
            continue;
        }
        eprintln!("\n== {} ==", group.name);
        let started = Instant::now();
        let outcome = (group.run)(workspace);
        let (tally, lines) = describe(group.name, outcome, started.elapsed(), strict);
        sum += tally;
        summary.extend(lines);
    }
    println!();
    for line in summary {
        println!("{line}");
    }
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A group's part of the sum and of the summary. What kept a group from running counts as one failure.
fn describe(name: &str, outcome: Result<Outcome>, took: Duration, strict: bool) -> (Tally, Vec<String>) {
    let failed = Tally { failed: 1, ..Tally::default() };
    let (tally, head, failures) = match outcome {
        Ok(Outcome::Ran(Report { tally, failures })) => {
            let Tally { passed, failed, skipped } = tally;
            let head = format!("{passed} passed, {failed} failed, {skipped} skipped in {:.0} s", took.as_secs_f64());
            (tally, head, failures)
        }
        Ok(Outcome::Skipped(reason)) if strict => {
            (failed, format!("failed: with CI=true nothing may be skipped, but {reason}"), Vec::new())
        }
        Ok(Outcome::Skipped(reason)) => {
            let skipped = Tally { skipped: 1, ..Tally::default() };
            (skipped, format!("skipped: {reason}"), Vec::new())
        }
        Err(error) => (failed, format!("failed: {error:#}"), Vec::new()),
    };
    let mut lines = vec![format!("{name:<10} {head}")];
    lines.extend(failures.iter().map(|failure| format!("{:<10} FAILED {failure}", "")));
    (tally, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(outcome: Result<Outcome>, strict: bool) -> (Tally, String) {
        let (tally, lines) = describe("x", outcome, Duration::ZERO, strict);
        (tally, lines.join("\n"))
    }

    #[test]
    fn a_skip_is_named_and_fails_only_in_ci() {
        let skipped = || Ok(Outcome::Skipped("there is no browser".to_owned()));
        let (lenient, line) = tally(skipped(), false);
        assert_eq!(lenient, Tally { skipped: 1, ..Tally::default() });
        assert_eq!(line, "x          skipped: there is no browser");
        let (strict, line) = tally(skipped(), true);
        assert_eq!(strict, Tally { failed: 1, ..Tally::default() });
        assert!(line.contains("there is no browser"), "{line}");
    }

    #[test]
    fn a_group_that_cannot_run_is_a_failure() {
        let (tally, line) = tally(Err(anyhow::anyhow!("no cargo")), false);
        assert_eq!(tally, Tally { failed: 1, ..Tally::default() });
        assert!(line.ends_with("failed: no cargo"), "{line}");
    }

    #[test]
    fn failures_are_listed_below_the_counts() {
        let tally_of = Tally { passed: 2, failed: 1, skipped: 0 };
        let report = Report { tally: tally_of, failures: vec!["a::b".to_owned()] };
        let (tally, line) = tally(Ok(Outcome::Ran(report)), true);
        assert_eq!(tally, tally_of);
        assert_eq!(line, "x          2 passed, 1 failed, 0 skipped in 0 s\n           FAILED a::b");
    }
}
