//! The rules of this repository that no compiler checks.
//!
//! Each check returns what breaks its rule, one line per offence, saying what to do about it.

mod files;
mod layers;
mod licences;
mod rooms;

use anyhow::Result;

use crate::test::{Outcome, Report, Tally};
use crate::workspace::Workspace;

/// Runs every check; each counts as one test.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let files = files::of_repository(workspace)?;
    let checks = [
        ("layers", layers::offences(workspace)?),
        ("rooms of core", rooms::offences(&files)?),
        ("licences", licences::offences(&workspace.packages()?)),
        ("file sizes", files::too_large(&files)),
        ("paths of a machine", files::naming_machine_paths(&files)?),
        ("unfinished code", files::unfinished(&files)?),
    ];
    let mut report = Report::default();
    for (name, offences) in checks {
        let passed = offences.is_empty();
        eprintln!("{name}: {}", if passed { "ok" } else { "FAILED" });
        report.tally += Tally { passed: passed.into(), failed: (!passed).into(), skipped: 0 };
        report.failures.extend(offences.into_iter().map(|offence| format!("{name}: {offence}")));
    }
    Ok(Outcome::Ran(report))
}
