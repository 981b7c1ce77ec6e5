//! Pilots as processes on this host. They outlive the coordinator: what is needed to find one again is its number in a file, and its
//! key in its command line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use promptfield_core::scheduler::pilot_records::{
    Launch, LauncherKind, Phase, PilotEnd, PilotKey, PoolSettings, Sighting,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{CheckError, Launcher, Order, Site};

/// What the names of the files with the processes' numbers end in.
const SUFFIX: &str = ".pid";
/// Looking at files is cheap.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Local {
    site: Arc<Site>,
    /// Those that this coordinator has started itself: it's told how they end.
    children: Mutex<Vec<(PilotKey, Child)>>,
}

/// A pilot's process, by its file.
struct Found {
    key: PilotKey,
    file: PathBuf,
    process: Option<Pid>,
}

impl Local {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, children: Mutex::default() }
    }

    fn start(&self, order: &Order<'_>) -> Launch {
        let mut names = Vec::new();
        for index in 0..order.count {
            match self.start_one(order, index) {
                Ok(name) => names.push(name),
                Err(error) if names.is_empty() => return Launch::Refused(error.to_string()),
                // The next look tells which are there.
                Err(error) => return Launch::Unclear(error.to_string()),
            }
        }
        Launch::Accepted(names)
    }

    fn start_one(&self, order: &Order<'_>, index: u32) -> io::Result<String> {
        let Site { program, folder, .. } = &*self.site;
        fs_err::create_dir_all(folder)?;
        let place = index.to_string();
        let log = fs_err::OpenOptions::new().create(true).append(true).open(self.site.log(order.batch, &place))?;
        let mut command = Command::new(program);
        command.args(self.site.arguments(order, &place)).args(threads(order)).env_remove("PROMPTFIELD_TOKEN");
        // In a group of its own: Ctrl-C in the coordinator's terminal isn't meant for it.
        command.process_group(0).kill_on_drop(false);
        command.stdin(Stdio::null()).stdout(log.file().try_clone()?).stderr(log.into_parts().0);
        let child =
            command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        let process = child.id().ok_or_else(|| io::Error::other("the process has no number"))?;
        let key = PilotKey { batch: order.batch.to_owned(), index };
        fs_err::write(self.file(&key), process.to_string())?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push((key, child));
        Ok(process.to_string())
    }

    fn file(&self, key: &PilotKey) -> PathBuf {
        self.site.folder.join(format!("{}-{key}{SUFFIX}", self.site.instance))
    }

    fn list(&self) -> io::Result<Vec<Sighting>> {
        let mut sightings = Vec::new();
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        for Found { key, file, process } in self.found()? {
            let child = children.iter_mut().find(|(known, _)| *known == key);
            let status = child.and_then(|(_, child)| child.try_wait().ok().flatten());
            let (phase, detail) = match (status, process) {
                (Some(status), _) if status.success() => (Phase::Over(PilotEnd::Done), status.to_string()),
                (Some(status), _) => (Phase::Over(PilotEnd::Failed), status.to_string()),
                (None, Some(process)) => (Phase::Running, format!("process {}", process.as_raw_nonzero())),
                (None, None) => (Phase::Over(PilotEnd::Failed), "the process is gone".to_owned()),
            };
            let launcher_id = fs_err::read_to_string(&file)?.trim().to_owned();
            if matches!(phase, Phase::Over(_)) {
                children.retain(|(known, _)| *known != key);
                fs_err::remove_file(&file)?;
            }
            sightings.push(Sighting { key, launcher_id, phase, detail, node: None });
        }
        Ok(sightings)
    }

    /// All pilots of which there is a file.
    fn found(&self) -> io::Result<Vec<Found>> {
        let entries = match fs_err::read_dir(&self.site.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let file = entry?.path();
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let key =
                name.strip_suffix(SUFFIX).and_then(|name| name.strip_prefix(&self.site.instance)?.strip_prefix('-'));
            let Some(key) = key.and_then(|key| key.parse().ok()) else { continue };
            let process = process_in(&file, &key);
            found.push(Found { key, file, process });
        }
        Ok(found)
    }

    fn stop(&self, names: &[String]) -> io::Result<()> {
        for Found { process, .. } in self.found()? {
            let Some(process) = process.filter(|process| names.contains(&process.as_raw_nonzero().to_string())) else {
                continue;
            };
            match kill_process(process, Signal::TERM) {
                // It ended in between.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The processors are divided among the slots of as many pilots as there may be: more threads would stand in each other's way.
fn threads(order: &Order<'_>) -> [String; 2] {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let slots = (order.settings.max * order.settings.slots_per_gpu) as usize;
    ["--threads".to_owned(), (cores / slots.max(1)).max(1).to_string()]
}

/// The process that a file names, if it is the pilot's still: numbers are given out again.
fn process_in(file: &Path, key: &PilotKey) -> Option<Pid> {
    let number: i32 = fs_err::read_to_string(file).ok()?.trim().parse().ok()?;
    let words = fs_err::read(format!("/proc/{number}/cmdline")).ok()?;
    let is_its = words.split(|byte| *byte == 0).any(|word| word == key.to_string().as_bytes());
    is_its.then(|| Pid::from_raw(number)).flatten()
}

impl Launcher for Local {
    fn kind(&self) -> LauncherKind {
        LauncherKind::Local
    }

    fn look_every(&self) -> Duration {
        LOOK_EVERY
    }

    fn check<'a>(&'a self, _: &'a str, _: &'a PoolSettings) -> BoxFuture<'a, Result<(), CheckError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn start<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Launch> {
        std::future::ready(self.start(&order)).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, String>> {
        std::future::ready(self.list().map_err(|error| error.to_string())).boxed()
    }

    fn stop<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        std::future::ready(self.stop(names).map_err(|error| error.to_string())).boxed()
    }
}
