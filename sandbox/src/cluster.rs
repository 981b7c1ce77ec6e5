//! Clusters: started, looked at, damaged and removed.

use std::fmt;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use fs_err::os::unix::fs::{OpenOptionsExt, symlink};
use tempfile::TempDir;

use crate::configuration::{Place, Plan};
use crate::jobs::{self, Job};
use crate::ports::Ports;
use crate::processes::Owner;
use crate::wait_until;

/// What has to be installed: Debian's `slurm-wlm` and `munge`, and what any system has.
const PROGRAMS: [&str; 10] =
    ["munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "timeout", "id"];
/// Slurm's sockets lie in the cluster's folder, and a socket's path has 107 bytes at most.
const LONGEST_TMPDIR: usize = 48;
/// To start a cluster, each with other ports.
const ATTEMPTS: u32 = 3;
/// For a daemon or a node to be there.
const START: Duration = Duration::from_mins(1);
/// In seconds, for a client's answer.
const CLIENT: &str = "60";
/// The names of the daemons that aren't nodes.
const CONTROLLER: &str = "controller";
const MUNGE: &str = "munge";

/// A Slurm cluster that runs until it's dropped.
pub struct Cluster {
    /// Taken when it's removed.
    folder: Option<TempDir>,
    conf: PathBuf,
    /// The controller first, then munge, then the nodes.
    daemons: Vec<Daemon>,
    /// Ends all the rest when its input ends.
    sweeper: Child,
    ports: Ports,
}

/// A daemon's name is its folder's and its log's too.
struct Daemon {
    name: String,
    child: Option<Child>,
}

/// A daemon that ended though nobody told it to.
#[derive(Debug)]
struct Died(String);

impl fmt::Display for Died {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Died {}

impl Cluster {
    /// Whether clusters can be started here; if not, what is missing.
    pub fn available() -> Result<(), String> {
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| find(name).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("{} can't be found: `apt-get install slurm-wlm munge`", missing.join(", ")))
    }

    /// Starts a cluster, and waits until all of its nodes are idle.
    pub fn start(plan: &Plan) -> Result<Self> {
        Self::available().map_err(anyhow::Error::msg)?;
        for _ in 1..ATTEMPTS {
            match Self::start_once(plan) {
                // Somebody else may have been faster to take a port.
                Err(error) if error.is::<Died>() => {}
                outcome => return outcome.context("starting a Slurm cluster"),
            }
        }
        Self::start_once(plan).context("starting a Slurm cluster")
    }

    fn start_once(plan: &Plan) -> Result<Self> {
        let mut place = std::env::temp_dir();
        if place.as_os_str().len() > LONGEST_TMPDIR {
            place = "/tmp".into();
        }
        let folder = tempfile::Builder::new().prefix("slurm-").tempdir_in(place).context("making a folder")?;
        let path = fs::canonicalize(folder.path())?;
        let ports = Ports::take(1 + plan.nodes as usize)?;
        prepare(plan, &path, ports.get())?;
        let sweeper = command("sh", &path.join("slurm.conf"))
            .args(["-c", include_str!("sweep.sh"), "sweep"])
            .arg(&path)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting sh")?;
        let mut cluster = Self {
            folder: Some(folder),
            conf: path.join("slurm.conf"),
            daemons: names(plan).map(|name| Daemon { name, child: None }).collect(),
            sweeper,
            ports,
        };
        cluster.begin_munge()?;
        cluster.begin_controller()?;
        for index in 1..=plan.nodes {
            cluster.begin_node(index)?;
        }
        cluster.wait_for_controller()?;
        cluster.wait("that all nodes are idle", |cluster| {
            Ok((1..=plan.nodes).map(|index| cluster.node_state(index)).all(|state| state.is_ok_and(|it| it == "idle")))
        })?;
        Ok(cluster)
    }

    /// What Slurm's clients need in `SLURM_CONF`.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// Where everything lies that belongs to the cluster; `log/` has a file of each daemon's.
    pub fn folder(&self) -> &Path {
        self.conf.parent().unwrap_or(&self.conf)
    }

    /// A program that talks to this cluster, whatever the environment says of others.
    pub fn command(&self, program: &str) -> Command {
        command(program, &self.conf)
    }

    /// Runs one of Slurm's clients, for a minute at most, and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let what = format!("{program} {}", arguments.join(" "));
        let output = self
            .command("timeout")
            .args(["--kill-after=1", CLIENT, program])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {what}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{what}` ended with {}: {}", output.status, said.trim());
        String::from_utf8(output.stdout).with_context(|| format!("reading what `{what}` printed"))
    }

    /// Runs `sbatch`, and returns the id of the job or array.
    pub fn submit(&self, arguments: &[&str]) -> Result<u64> {
        let printed = self.run("sbatch", &[&["--parsable"], arguments].concat())?;
        printed.trim().parse().with_context(|| format!("sbatch printed no id: {printed:?}"))
    }

    /// The jobs that wait, run, or are about to be over; each element of an array on its own.
    pub fn queue(&self) -> Result<Vec<Job>> {
        self.squeue(&[])
    }

    /// Those in the queue, and those that ended no longer ago than the controller remembers.
    pub fn remembered(&self) -> Result<Vec<Job>> {
        self.squeue(&["--states=all"])
    }

    fn squeue(&self, arguments: &[&str]) -> Result<Vec<Job>> {
        let printed = self.run("squeue", &[&["-h", "-r", "-o", jobs::FORMAT], arguments].concat())?;
        printed.lines().map(Job::read).collect()
    }

    /// What the controller thinks of a node: `idle`, `mixed`, `allocated`, `down`, …, with a `*` if it doesn't answer.
    pub fn node_state(&self, index: u32) -> Result<String> {
        // Asked for one node only, sinfo says `allocated` for `mixed`.
        let printed = self.run("sinfo", &["-h", "-N", "-p", "gpu", "-o", "%N %T"])?;
        let mut nodes = printed.lines().filter_map(|line| line.trim().split_once(' '));
        let found = nodes.find(|(name, _)| *name == node_name(index));
        found.map(|(_, state)| state.to_owned()).with_context(|| format!("sinfo knows no {}", node_name(index)))
    }

    /// Kills the controller. What it has accepted within the last seconds may be forgotten.
    pub fn kill_controller(&mut self) -> Result<()> {
        self.kill(CONTROLLER)
    }

    /// Starts the controller again, and waits until it answers.
    pub fn start_controller(&mut self) -> Result<()> {
        self.begin_controller()?;
        self.wait_for_controller()
    }

    /// Kills all that runs on a node, as if it lost its power. The first one is `n1`, with the index 1.
    pub fn kill_node(&mut self, index: u32) -> Result<()> {
        self.kill(&node_name(index))
    }

    /// Starts a node again, and waits until the controller would give it jobs.
    pub fn start_node(&mut self, index: u32) -> Result<()> {
        self.begin_node(index)?;
        let port = self.ports.get()[index as usize];
        self.wait("that the node listens", |_| Ok(listens(port)))?;
        self.wait("that the node is fit for jobs", |cluster| {
            let state = cluster.node_state(index)?;
            Ok(["idle", "mixed", "allocated", "completing"].contains(&state.as_str()))
        })
    }

    fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        let daemon = self.daemons.iter_mut().find(|daemon| daemon.name == name);
        daemon.with_context(|| format!("this cluster has no {name}"))
    }

    fn kill(&mut self, name: &str) -> Result<()> {
        let child = self.daemon(name)?.child.take();
        kill(&mut child.with_context(|| format!("{name} isn't running"))?)?;
        self.owner(Some(name)).kill_all()
    }

    fn owner<'a>(&'a self, part: Option<&'a str>) -> Owner<'a> {
        Owner { folder: self.folder(), part }
    }

    fn begin_munge(&mut self) -> Result<()> {
        let folder = self.folder().join(MUNGE);
        let socket = folder.join("socket");
        let place = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
        let arguments = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            "--num-threads=2".to_owned(),
            "--origin=127.0.0.1".to_owned(),
            place("key-file", "key"),
            place("socket", "socket"),
            place("pid-file", "pid"),
            place("log-file", "log"),
            place("seed-file", "seed"),
        ];
        self.begin("munged", MUNGE, &arguments)?;
        self.wait("that munged answers", |_| Ok(UnixStream::connect(&socket).is_ok()))
    }

    fn begin_controller(&mut self) -> Result<()> {
        let conf = self.conf.display().to_string();
        self.begin("slurmctld", CONTROLLER, &["-D".to_owned(), "-f".to_owned(), conf])
    }

    fn begin_node(&mut self, index: u32) -> Result<()> {
        let (name, conf) = (node_name(index), self.conf.display().to_string());
        self.begin("slurmd", &name, &["-D".to_owned(), "-N".to_owned(), name.clone(), "-f".to_owned(), conf])
    }

    /// Starts a daemon in the foreground, in its own folder: by that, what it starts is found again.
    fn begin(&mut self, program: &str, name: &str, arguments: &[String]) -> Result<()> {
        ensure!(self.daemon(name)?.child.is_none(), "{name} is running");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log(name))?.into_parts().0;
        let path = find(program).with_context(|| format!("{program} can't be found"))?;
        // In a group of its own it isn't interrupted by the terminal: the sweeper takes care of it.
        let child = command(path, &self.conf)
            .args(arguments)
            .current_dir(self.folder().join(name))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        self.daemon(name)?.child = Some(child);
        Ok(())
    }

    fn wait_for_controller(&mut self) -> Result<()> {
        let port = self.ports.get()[0];
        self.wait("that the controller listens", |_| Ok(listens(port)))?;
        self.wait("that the controller answers", |cluster| Ok(cluster.run("sinfo", &["-h"]).is_ok()))
    }

    /// Waits, but no longer than all daemons run that were started; then it says what their logs say.
    fn wait(&mut self, what: &str, mut holds: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let waited = wait_until(what, START, || {
            self.check()?;
            holds(self)
        });
        match waited {
            Err(error) if !error.is::<Died>() => {
                let logs: Vec<_> = self.daemons.iter().map(|daemon| self.end_of_log(&daemon.name)).collect();
                Err(error.context(logs.join("\n")))
            }
            outcome => outcome,
        }
    }

    /// That no daemon has ended on its own.
    fn check(&mut self) -> Result<()> {
        for place in 0..self.daemons.len() {
            let Daemon { name, child } = &mut self.daemons[place];
            let ended = child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                let name = name.clone();
                bail!(Died(format!("{name} ended with {status}; {}", self.end_of_log(&name))));
            }
        }
        Ok(())
    }

    fn log(&self, daemon: &str) -> PathBuf {
        self.folder().join("log").join(daemon)
    }

    fn end_of_log(&self, daemon: &str) -> String {
        let text = fs::read_to_string(self.log(daemon)).unwrap_or_else(|error| error.to_string());
        let lines: Vec<_> = text.lines().collect();
        format!("{daemon}'s log ends:\n{}", lines[lines.len().saturating_sub(12)..].join("\n"))
    }

    /// The controller first, so that it doesn't begin again what ends.
    fn remove(&mut self) -> Result<()> {
        for child in self.daemons.iter_mut().filter_map(|daemon| daemon.child.as_mut()) {
            kill(child)?;
        }
        self.owner(None).kill_all()?;
        self.folder.take().map_or(Ok(()), TempDir::close).context("removing the folder")?;
        kill(&mut self.sweeper)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            // The sweeper tries again, as its input ends now.
            eprintln!("a Slurm cluster in {} wasn't removed: {error:#}", self.folder().display());
        }
    }
}

/// Of all daemons.
fn names(plan: &Plan) -> impl Iterator<Item = String> {
    [CONTROLLER, MUNGE].into_iter().map(str::to_owned).chain((1..=plan.nodes).map(node_name))
}

fn node_name(index: u32) -> String {
    format!("n{index}")
}

/// Where a program lies. Daemons are for administrators, whose folders aren't in everybody's `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A program of this cluster's, whatever the environment says of others.
fn command(program: impl AsRef<std::ffi::OsStr>, conf: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let of_slurm = ["SLURM", "SBATCH_", "SCANCEL_", "SINFO_", "SQUEUE_", "SCONTROL_"];
        if name.to_str().is_some_and(|name| of_slurm.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    command.env("SLURM_CONF", conf);
    command
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill().context("killing a daemon")?;
    child.wait().context("waiting for a daemon's end")?;
    Ok(())
}

/// Makes the folder's contents: the configuration, a key, and a folder for each daemon.
fn prepare(plan: &Plan, folder: &Path, ports: &[u16]) -> Result<()> {
    let id = Command::new("id").arg("-un").output().context("running id")?;
    let user = String::from_utf8(id.stdout).context("reading the user's name")?;
    ensure!(id.status.success(), "`id -un` ended with {}", id.status);
    for name in names(plan).chain(["log", "dev", "controller/state"].map(str::to_owned)) {
        fs::create_dir(folder.join(name))?;
    }
    for gpu in 0..plan.gpus {
        symlink("/dev/null", folder.join(format!("dev/nvidia{gpu}")))?;
    }
    let mut key = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(folder.join("munge/key"))?;
    std::io::copy(&mut std::io::Read::take(fs::File::open("/dev/urandom")?, 1024), &mut key)?;
    let place = Place { folder, user: user.trim(), ports };
    fs::write(folder.join("slurm.conf"), plan.slurm_conf(&place))?;
    fs::write(folder.join("gres.conf"), plan.gres_conf(folder))?;
    Ok(())
}
