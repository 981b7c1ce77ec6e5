//! The test group `openapi`: requests that are made of the API's document, right ones and wrong ones, and a look at whether the answers
//! are as it says. Schemathesis makes and judges them; a coordinator without tokens gets them, and one that asks for them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use crate::deploy::{Running, succeeds, within_patience, without_own_variables};
use crate::test::{Outcome, Report, Tally};
use crate::workspace::Workspace;
use crate::{setup, test};

const TOOL: &str = ".deps/schemathesis";
/// Its versions, with their hashes.
const REQUIREMENTS: &str = ".ci/schemathesis.txt";
const DOCUMENT: &str = "docs/openapi.json";
const SETTINGS: &str = ".ci/schemathesis.toml";

/// Each coordinator counts as one test.
pub(crate) fn test(workspace: &Workspace) -> Result<Outcome> {
    let tool = workspace.root().join(TOOL);
    if succeeds(schemathesis(workspace, &tool).arg("--version")).is_err() {
        return Ok(Outcome::Skipped(format!(
            "there is no schemathesis: `python3 -m pip install --target {TOOL} --require-hashes --requirement {REQUIREMENTS}`"
        )));
    }
    setup::run(workspace, &setup::Options::default())?;
    test::rust::build_programs(workspace)?;
    let target = workspace.target_directory()?;
    let program = target.join("debug/promptfield");
    let mut report = Report::default();
    for (name, tokens) in [("without tokens", "loopback-free"), ("with a token", "required")] {
        let outcome = Coordinator::start(workspace, &program, &target.join("openapi"), tokens)
            .and_then(|coordinator| coordinator.ask(workspace, schemathesis(workspace, &tool)));
        eprintln!("{name}: {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        report.tally += Tally { passed: outcome.is_ok().into(), failed: outcome.is_err().into(), skipped: 0 };
        report.failures.extend(outcome.err().map(|error| format!("{name}: {error:#}")));
    }
    Ok(Outcome::Ran(report))
}

/// The program as pip lays it into a folder of its own.
fn schemathesis(workspace: &Workspace, tool: &Path) -> Command {
    let mut command = workspace.command("python3");
    command.env("PYTHONPATH", tool).arg(tool.join("bin/schemathesis"));
    command
}

/// A coordinator with nothing in it.
struct Coordinator {
    running: Running,
    port: u16,
    token: Option<String>,
    /// Where its state lies.
    folder: PathBuf,
}

impl Coordinator {
    fn start(workspace: &Workspace, program: &Path, folder: &Path, tokens: &str) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // Nobody listens there once the listener is gone.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let settings = folder.join("promptfield.toml");
        let text = format!(
            "[coordinator]\nlisten = \"127.0.0.1:{port}\"\ntokens = \"{tokens}\"\n[backbones]\n\"ViT-B/16\" = \"none\"\n"
        );
        fs::write(&settings, text)?;
        let promptfield = |arguments: &[&str]| {
            let mut command = workspace.command(program);
            without_own_variables(&mut command);
            command.arg("--settings").arg(&settings).args(arguments);
            command
        };
        let token = if tokens == "required" {
            let file = folder.join("token");
            succeeds(promptfield(&["token", "create", "tests", "--scope", "admin", "--output"]).arg(&file))?;
            Some(fs::read_to_string(file)?.trim().to_owned())
        } else {
            None
        };
        let mut running = Running(promptfield(&["serve"]).spawn().context("starting the coordinator")?);
        within_patience(|| {
            ensure!(running.0.try_wait()?.is_none(), "the coordinator ended: see its message above");
            Ok(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(Self { running, port, token, folder: folder.to_owned() })
    }

    fn ask(mut self, workspace: &Workspace, mut schemathesis: Command) -> Result<()> {
        schemathesis.current_dir(&self.folder);
        schemathesis.args(["--no-color", "--config-file"]).arg(workspace.root().join(SETTINGS));
        let url = format!("http://127.0.0.1:{}", self.port);
        schemathesis.args(["run", "--url", &url]);
        match &self.token {
            Some(token) => schemathesis.args(["--header", &format!("Authorization: Bearer {token}")]),
            // Here it's the setting that nobody needs one.
            None => schemathesis.args(["--exclude-checks", "ignored_auth"]),
        };
        schemathesis.arg(workspace.root().join(DOCUMENT));
        succeeds(&mut schemathesis)?;
        ensure!(self.running.0.try_wait()?.is_none(), "the coordinator ended");
        Ok(())
    }
}
