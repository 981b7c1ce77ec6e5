//! Processes that Slurm started: found in `/proc` by what they are, and killed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fs_err as fs;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_until;

/// What belongs to a cluster, or to one part of it.
pub(crate) struct Owner<'a> {
    pub(crate) folder: &'a Path,
    /// A node's name, or another folder that a daemon is started in.
    pub(crate) part: Option<&'a str>,
}

struct Process {
    pid: i32,
    parent: i32,
}

impl Owner<'_> {
    /// Kills all that belongs here, with what that started, until there is nothing left.
    pub(crate) fn kill_all(&self) -> Result<()> {
        wait_until("that its processes are gone", Duration::from_secs(10), || {
            let found = self.processes()?;
            for pid in &found {
                match kill_process(*pid, Signal::KILL) {
                    Err(Errno::SRCH) | Ok(()) => {}
                    Err(error) => return Err(error).context("killing a process of the cluster"),
                }
            }
            Ok(found.is_empty())
        })
    }

    /// Those that belong here, and their descendants.
    fn processes(&self) -> Result<Vec<Pid>> {
        let all = living()?;
        let own = std::process::id().cast_signed();
        let mut found: BTreeSet<_> = all.iter().map(|process| process.pid).filter(|pid| self.owns(*pid)).collect();
        loop {
            let before = found.len();
            let children = all.iter().filter(|process| found.contains(&process.parent)).map(|process| process.pid);
            found.extend(children.collect::<Vec<_>>());
            if found.len() == before {
                break;
            }
        }
        Ok(found.into_iter().filter(|pid| *pid != own).filter_map(Pid::from_raw).collect())
    }

    /// A daemon, and what looks after a job, keeps the folder that it was started in; a job's environment names the cluster
    /// and the node. Clients have neither, whoever runs them.
    fn owns(&self, pid: i32) -> bool {
        let process = Path::new("/proc").join(pid.to_string());
        let program = std::fs::read_link(process.join("exe")).unwrap_or_default();
        let program = program.file_name().unwrap_or_default().to_string_lossy();
        if ["slurm", "munged"].iter().any(|start| program.starts_with(start)) {
            let folder = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            return folder.starts_with(self.part.map_or(self.folder.to_owned(), |part| self.folder.join(part)));
        }
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        let value = |name: &str| {
            let mut all = environment.split(|byte| *byte == 0);
            all.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let conf = self.folder.join("slurm.conf");
        let node = value("SLURMD_NODENAME");
        value("SLURM_CONF") == Some(conf.as_os_str().as_encoded_bytes())
            && self.part.map_or(node.is_some(), |name| node == Some(name.as_bytes()))
    }
}

/// All processes but those that have ended and only wait to be asked how.
fn living() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = match std::fs::read(entry.path().join("stat")) {
            Ok(stat) => stat,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(error).context("reading /proc"),
        };
        match state_and_parent(&String::from_utf8_lossy(&stat)) {
            Some(("Z" | "X", _)) | None => {}
            Some((_, parent)) => found.push(Process { pid, parent }),
        }
    }
    Ok(found)
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Reads `PID (NAME) STATE PARENT …`; a name may contain anything.
fn state_and_parent(stat: &str) -> Option<(&str, i32)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_have_any_name() {
        assert_eq!(state_and_parent("12 (a) b (c) S 7 12 12 0 -1"), Some(("S", 7)));
        assert_eq!(state_and_parent("12 (sh"), None);
    }

    #[test]
    fn this_process_lives_and_belongs_to_no_cluster() {
        let own = std::process::id().cast_signed();
        assert!(living().unwrap().iter().any(|process| process.pid == own));
        assert!(!Owner { folder: Path::new("/proc"), part: None }.owns(own));
    }
}
