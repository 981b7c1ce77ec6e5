//! The peers: scripts that measure something else in the same way.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::args::{CoordinatorArgs, Peers};
use crate::stats::Spread;

/// Where the scripts are, from the repository's root.
pub(crate) const FOLDER: &str = "bench/peers";
/// A peer that takes longer is given up.
const LONGEST: Duration = Duration::from_mins(10);

/// A script, and how it's called.
struct Peer {
    name: &'static str,
    script: &'static str,
    more: &'static [&'static str],
    /// The most jobs: one costs the same however many there are.
    most: u64,
    /// Whether it needs `packages.txt`.
    packages: bool,
}

const QUICK: [Peer; 5] = [
    Peer { name: "fdatasync alone", script: "fdatasync.py", more: &[], most: 10_000, packages: false },
    Peer {
        name: "SQLite alone, a commit a transition",
        script: "sqlite_commits.py",
        more: &["1"],
        most: 2_000,
        packages: false,
    },
    Peer {
        name: "SQLite alone, 100 transitions a commit",
        script: "sqlite_commits.py",
        more: &["100"],
        most: 10_000,
        packages: false,
    },
    Peer { name: "posix_spawn of /bin/true", script: "spawn.py", more: &[], most: 2_000, packages: false },
    Peer { name: "xargs -P2 /bin/true", script: "xargs.py", more: &[], most: 2_000, packages: false },
];

const MORE: [Peer; 5] = [
    Peer { name: "Ray", script: "ray_tasks.py", more: &[], most: 2_000, packages: true },
    Peer { name: "Dask distributed", script: "dask_tasks.py", more: &[], most: 2_000, packages: true },
    Peer { name: "Celery on Redis", script: "celery_tasks.py", more: &[], most: 2_000, packages: true },
    Peer { name: "Slurm, an array of /bin/true", script: "slurm_array.py", more: &[], most: 500, packages: false },
    Peer { name: "HyperQueue, an array of /bin/true", script: "hq_array.py", more: &[], most: 10_000, packages: false },
];

/// What became of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerRuns {
    /// Its name.
    pub(crate) name: String,
    /// How many jobs it was given.
    pub(crate) jobs: u64,
    /// What it measured, or why it could not.
    pub(crate) outcome: Outcome,
}

/// A peer's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was measured.
    Measured {
        /// Its version.
        version: String,
        /// What an acknowledged job survives.
        durable: String,
        /// Jobs in a second.
        jobs_per_s: Spread,
        /// CPU time of all its processes for each job, in microseconds.
        cpu_us_per_job: Spread,
    },
    /// It could not be had.
    Missing(String),
}

/// What a script prints.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Printed {
    Missing { missing: String },
    Measured { wall_s: f64, cpu_s: f64, version: String, durable: String },
}

/// Measures the peers that were asked for, none with more than `jobs`.
pub(crate) async fn measure(
    args: &CoordinatorArgs,
    jobs: u64,
    folder: impl Fn() -> Result<tempfile::TempDir>,
) -> Result<Vec<PeerRuns>> {
    let quick = QUICK.iter().filter(|_| args.peers >= Peers::Quick);
    let more = MORE.iter().filter(|_| args.peers >= Peers::All);
    let mut packages = None;
    let mut all = Vec::new();
    for peer in quick.chain(more) {
        eprintln!("peer: {}", peer.name);
        let jobs = jobs.min(peer.most);
        let python = if peer.packages {
            if packages.is_none() {
                packages = Some(install(&args.packages, "packages.txt").await);
            }
            packages.clone().unwrap_or_else(|| Err("nothing was installed".to_owned()))
        } else {
            Ok(PathBuf::from("python3"))
        };
        let outcome = match python {
            Ok(python) => repeat(peer, &python, jobs, args.repeat.get(), &folder).await?,
            Err(reason) => Outcome::Missing(reason),
        };
        all.push(PeerRuns { name: peer.name.to_owned(), jobs, outcome });
    }
    Ok(all)
}

async fn repeat(
    peer: &Peer,
    python: &Path,
    jobs: u64,
    times: u64,
    folder: impl Fn() -> Result<tempfile::TempDir>,
) -> Result<Outcome> {
    let (mut per_second, mut cpu_us, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..times {
        let folder = folder()?;
        let mut script = Command::new(python);
        script.arg(Path::new(FOLDER).join(peer.script)).arg(jobs.to_string()).arg(folder.path()).args(peer.more);
        match output(script, LONGEST).await.and_then(|output| read(&output)) {
            Ok(Printed::Measured { wall_s, cpu_s, version, durable }) => {
                per_second.push(jobs as f64 / wall_s);
                cpu_us.push(cpu_s * 1e6 / jobs as f64);
                last = Some((version, durable));
            }
            Ok(Printed::Missing { missing }) => return Ok(Outcome::Missing(missing)),
            Err(error) => return Ok(Outcome::Missing(error)),
        }
    }
    let (Some((version, durable)), Some(jobs_per_s), Some(cpu_us_per_job)) =
        (last, Spread::of(per_second), Spread::of(cpu_us))
    else {
        return Ok(Outcome::Missing("it was not run".to_owned()));
    };
    Ok(Outcome::Measured { version, durable, jobs_per_s, cpu_us_per_job })
}

/// The Python of the peers' packages, with those of a list installed if need be; or why there is none.
pub(crate) async fn install(packages: &Path, list: &str) -> Result<PathBuf, String> {
    let python = packages.join("bin/python");
    let list = Path::new(FOLDER).join(list);
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(packages);
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&list);
    for command in [venv, pip] {
        let output = output(command, LONGEST).await?;
        if !output.status.success() {
            return Err(format!("its packages can't be installed: {}", last_line(&output.stderr)));
        }
    }
    Ok(python)
}

/// Runs a program to its end, or for so long.
pub(crate) async fn output(mut command: Command, longest: Duration) -> Result<Output, String> {
    let name = command.as_std().get_program().display().to_string();
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(longest, running).await;
    let output = output.with_context(|| format!("`{name}` took longer than {} minutes", longest.as_secs() / 60));
    output
        .and_then(|output| output.with_context(|| format!("`{name}` can't be started")))
        .map_err(|error| format!("{error:#}"))
}

/// Reads what a script printed last.
fn read(output: &Output) -> Result<Printed, String> {
    if !output.status.success() {
        return Err(format!("it ended with {}: {}", output.status, last_line(&output.stderr)));
    }
    let line = last_line(&output.stdout);
    serde_json::from_str(&line).map_err(|_| format!("it printed no measurement, but `{line}`"))
}

pub(crate) fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().lines().next_back().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn printed(code: i32, stdout: &str, stderr: &str) -> Result<Printed, String> {
        read(&Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() })
    }

    #[test]
    fn a_script_measures_or_says_why_not() {
        let line = r#"{"wall_s": 2.0, "cpu_s": 1.0, "version": "1", "durable": "nothing"}"#;
        let measured = Printed::Measured { wall_s: 2.0, cpu_s: 1.0, version: "1".into(), durable: "nothing".into() };
        assert_eq!(printed(0, &format!("talk\n{line}\n"), ""), Ok(measured));
        assert_eq!(printed(0, r#"{"missing": "no x"}"#, ""), Ok(Printed::Missing { missing: "no x".into() }));
        let failed = printed(1, "", "Traceback\nImportError: x\n").unwrap_err();
        assert!(failed.ends_with("ImportError: x"), "{failed}");
        let silent = printed(0, "hello", "").unwrap_err();
        assert!(silent.contains("`hello`"), "{silent}");
    }

    #[test]
    fn every_peer_has_its_script() {
        for peer in QUICK.iter().chain(&MORE) {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer.script);
            assert!(script.is_file(), "{}", peer.script);
        }
    }
}
