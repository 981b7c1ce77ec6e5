//! The dashboard: `cargo xtask web` builds what is committed in `web/dist`, and the test group `web` checks that it was.
//!
//! Whoever only uses or changes the Rust side needs none of this: the built files are part of the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::test::{Outcome, Report, Tally};
use crate::workspace::{Workspace, status};

/// The oldest Node.js that Vite runs on.
const OLDEST_NODE: (u32, u32) = (20, 19);

/// What vitest says of its tests, as far as it's used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vitest {
    num_passed_tests: u64,
    num_failed_tests: u64,
    num_pending_tests: u64,
    test_results: Vec<TestFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestFile {
    name: String,
    status: String,
    message: String,
    assertion_results: Vec<Assertion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assertion {
    full_name: String,
    status: String,
}

/// Types from the API's document, then the files that the coordinator serves.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if let Some(reason) = missing(workspace)? {
        anyhow::bail!("the dashboard can't be built: {reason}");
    }
    install(workspace)?;
    npm(workspace, &["run", "types"])?;
    npm(workspace, &["run", "check"])?;
    npm(workspace, &["run", "build"])
}

/// The unit tests, the types of components, and whether what is committed is what comes out.
pub(crate) fn test(workspace: &Workspace) -> Result<Outcome> {
    if let Some(reason) = missing(workspace)? {
        return Ok(Outcome::Skipped(reason));
    }
    install(workspace)?;
    let mut report = vitest(workspace, &[])?;
    let scratch = workspace.target_directory()?.join("web");
    let checks = [
        ("web: the types of components", npm(workspace, &["run", "check"]).err().map(|error| error.to_string())),
        ("web/src/api/schema.ts", types_differ(workspace, &scratch)?),
        ("web/dist", dist_differs(workspace, &scratch)?),
    ];
    for (name, offence) in checks {
        report.tally += Tally { passed: offence.is_none().into(), failed: offence.is_some().into(), skipped: 0 };
        report.failures.extend(offence.map(|offence| format!("{name}: {offence}")));
    }
    Ok(Outcome::Ran(report))
}

/// The dashboard in a real browser, on real coordinators.
pub(crate) fn test_in_browser(workspace: &Workspace) -> Result<Outcome> {
    if let Some(reason) = missing(workspace)? {
        return Ok(Outcome::Skipped(reason));
    }
    if chromium().is_none() {
        return Ok(Outcome::Skipped(
            "there is no Chromium: `apt-get install chromium`, or name one in CHROMIUM".into(),
        ));
    }
    crate::setup::run(workspace, &crate::setup::Options::default())?;
    crate::test::rust::build_programs(workspace)?;
    install(workspace)?;
    vitest(workspace, &["--config", "vitest.e2e.config.ts"]).map(Outcome::Ran)
}

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    named.into_iter().chain(usual).find(|path| path.exists())
}

/// What keeps the dashboard from being built here.
fn missing(workspace: &Workspace) -> Result<Option<String>> {
    let (major, minor) = OLDEST_NODE;
    let needed = format!("Node.js from {major}.{minor} on, with npm, is needed");
    let Ok(output) = workspace.command("node").arg("--version").output() else { return Ok(Some(needed)) };
    let said = String::from_utf8(output.stdout).context("reading the version of Node.js")?;
    let mut numbers = said.trim().trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let npm = workspace.command("npm").arg("--version").stdout(Stdio::null()).status();
    let is_here = version >= OLDEST_NODE && npm.is_ok_and(|status| status.success());
    Ok((!is_here).then(|| format!("{needed}; here is {}", said.trim())))
}

/// A program in the dashboard's folder. What it prints is talk.
fn program(workspace: &Workspace, name: &str) -> Command {
    let mut command = workspace.command(name);
    command.current_dir(workspace.root().join("web"));
    command
}

fn npm(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let ended = status(program(workspace, "npm").args(arguments))?;
    ensure!(ended.success(), "`npm {}` failed in web/: see the messages above", arguments.join(" "));
    Ok(())
}

/// Installs what the lock file names, unless it is there.
fn install(workspace: &Workspace) -> Result<()> {
    let web = workspace.root().join("web");
    let changed = |path: &str| fs_err::metadata(web.join(path)).and_then(|file| file.modified()).ok();
    if changed("node_modules/.package-lock.json") < changed("package-lock.json") {
        npm(workspace, &["ci", "--no-audit", "--no-fund"])?;
    }
    Ok(())
}

fn vitest(workspace: &Workspace, options: &[&str]) -> Result<Report> {
    let scratch = workspace.target_directory()?.join("web");
    let results = scratch.join("tests.json");
    match fs_err::remove_file(&results) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let ended = status(
        program(workspace, "npx")
            .args(["vitest", "run", "--reporter=default", "--reporter=json"])
            .arg(format!("--outputFile.json={}", results.display()))
            .args(options)
            .env("PROMPTFIELD", workspace.target_directory()?.join("debug/promptfield"))
            .env("CHROMIUM", chromium().unwrap_or_default()),
    )?;
    let text = fs_err::read(&results).with_context(|| format!("vitest ended with {ended} and left no results"))?;
    let found: Vitest = serde_json::from_slice(&text).context("reading the results of vitest")?;
    Ok(found.report())
}

impl Vitest {
    fn report(self) -> Report {
        let tally =
            Tally { passed: self.num_passed_tests, failed: self.num_failed_tests, skipped: self.num_pending_tests };
        let mut report = Report { tally, failures: Vec::new() };
        for file in self.test_results {
            let failed: Vec<_> = file.assertion_results.iter().filter(|test| test.status == "failed").collect();
            if failed.is_empty() && file.status == "failed" {
                // It broke outside of any test.
                report.tally.failed += 1;
                report.failures.push(format!("{}: {}", file.name, file.message));
            }
            report.failures.extend(failed.into_iter().map(|test| test.full_name.clone()));
        }
        report
    }
}

fn types_differ(workspace: &Workspace, scratch: &Path) -> Result<Option<String>> {
    let made = scratch.join("schema.ts");
    let output = format!("--output={}", made.display());
    npm(workspace, &["exec", "openapi-typescript", "--", "../docs/openapi.json", &output, "--alphabetize"])?;
    let committed = fs_err::read(workspace.root().join("web/src/api/schema.ts"))?;
    Ok((fs_err::read(made)? != committed).then(|| "isn't what docs/openapi.json says: `cargo xtask web`".to_owned()))
}

fn dist_differs(workspace: &Workspace, scratch: &Path) -> Result<Option<String>> {
    let made = scratch.join("dist");
    let folder = made.display().to_string();
    npm(workspace, &["exec", "vite", "--", "build", "--outDir", &folder, "--emptyOutDir"])?;
    let (made, committed) = (files(&made)?, files(&workspace.root().join("web/dist"))?);
    let differing: Vec<_> = made
        .keys()
        .chain(committed.keys())
        .filter(|name| made.get(*name) != committed.get(*name))
        .map(|name| name.display().to_string())
        .collect();
    let offence = format!("isn't what is built from web/src: `cargo xtask web` ({})", differing.join(", "));
    Ok((!differing.is_empty()).then_some(offence))
}

/// The files below a folder, with their bytes.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_owned(), fs_err::read(&path)?);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_breaks_outside_of_its_tests_is_a_failure() {
        let text = r#"{"numPassedTests": 2, "numFailedTests": 1, "numPendingTests": 1, "testResults": [
            {"name": "a", "status": "failed", "message": "", "assertionResults": [
                {"fullName": "a is b", "status": "failed"}, {"fullName": "b is b", "status": "passed"}]},
            {"name": "c", "status": "failed", "message": "no such module", "assertionResults": []}
        ]}"#;
        let report = serde_json::from_str::<Vitest>(text).unwrap().report();
        assert_eq!(report.tally, Tally { passed: 2, failed: 2, skipped: 1 });
        assert_eq!(report.failures, ["a is b", "c: no such module"]);
    }
}
