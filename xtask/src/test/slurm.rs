//! What only a real Slurm can show, on clusters that one machine plays.

use anyhow::Result;

use super::{Outcome, rust};
use crate::workspace::Workspace;

/// The name of these tests' targets: every package's that has one is run.
const TARGET: &str = "slurm";
/// What Debian's `slurm-wlm` and `munge` bring.
const PROGRAMS: [&str; 4] = ["munged", "sbatch", "slurmctld", "slurmd"];
/// Where daemons lie, whether or not `PATH` says so.
const DAEMONS: &str = "/usr/sbin";

pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain([DAEMONS.into()]).collect();
    let is_missing = |name: &&str| !folders.iter().any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = PROGRAMS.into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Ok(Outcome::Skipped(format!("there is no {missing}: `apt-get install slurm-wlm munge`")));
    }
    // Pilots are whole workers.
    rust::build_programs(workspace)?;
    // Most of the time they wait: for Slurm to look at limits, or to miss a node.
    rust::test(workspace, &["--test", TARGET, "--", "--test-threads=4"]).map(Outcome::Ran)
}
