//! pip is asked what the package index offers, so that its settings (index, mirror, certificates) hold here too.
//!
//! pip can't go on with an interrupted download, so it only gives the addresses; `download` fetches. A pip that
//! would fetch whole wheels to answer is left aside for a newer one, run from its own wheel.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::machine::python;

/// The first pip that reads a wheel's metadata from the index instead of from the wheel.
const FIRST_GOOD_PIP: (u32, u32) = (23, 2);
/// Fetched where the user's is older; runs on Python 3.8 and later.
const NEWER_PIP: &str = "pip==24.3.1 --hash=sha256:3790624780082365f47549d032f3770eeb2b1e8bd1f7b2e02dace1afa361b4ed";
const NEWER_PIP_FILE: &str = "pip-24.3.1-py3-none-any.whl";
/// The tag of the Python that the wheels are for; see `wheels`.
const PYTHON_VERSION: &str = "3.11";
const PYTHON_ABI: &str = "cp311";
/// The newest glibc 2.x that the wheels may ask for; the oldest is 2.17, which is also `manylinux2014`.
const GLIBC: std::ops::RangeInclusive<u32> = 17..=28;

/// A wheel that the index offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) url: String,
    /// In hexadecimal digits.
    pub(super) sha256: Option<String>,
}

impl Offer {
    /// The wheel's file name.
    pub(super) fn file(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

/// Whether what a package requires is resolved too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dependencies {
    Follow,
    Ignore,
}

/// What the index offers for the requirements (`name==version`); `scratch` is an existing folder.
pub(super) fn offers(requirements: &[&str], dependencies: Dependencies, scratch: &Path) -> Result<Vec<Offer>> {
    let mut command = python();
    command.args(front(scratch)?).args(["install", "--dry-run", "--ignore-installed", "--quiet"]);
    command.args(["--report", "-", "--target"]).arg(scratch).args(target_options());
    if dependencies == Dependencies::Ignore {
        command.arg("--no-deps");
    }
    let output = run(command.args(requirements))?;
    read_report(&output.stdout)
}

/// Lets pip itself download one wheel: for an index that only pip has the key to.
pub(super) fn download(requirement: &str, folder: &Path) -> Result<()> {
    let mut command = python();
    command.args(["-m", "pip", "download", "--no-deps", "--dest"]).arg(folder).args(target_options()).arg(requirement);
    let status = command.status().context("starting pip")?;
    ensure!(status.success(), "pip could not download {requirement}: see its message above");
    Ok(())
}

/// The arguments of python3 that start a pip which answers without downloading.
fn front(scratch: &Path) -> Result<Vec<OsString>> {
    let output = run(python().args(["-m", "pip", "--version"]))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if version(&said).is_some_and(|found| found >= FIRST_GOOD_PIP) {
        return Ok(vec!["-m".into(), "pip".into()]);
    }
    let requirements = scratch.join("pip.txt");
    fs_err::write(&requirements, NEWER_PIP)?;
    let mut command = python();
    command.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    run(command.arg("--dest").arg(scratch).arg("--requirement").arg(&requirements))?;
    Ok(vec![scratch.join(NEWER_PIP_FILE).join("pip").into_os_string()])
}

/// `(major, minor)` from the answer to `pip --version`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn target_options() -> Vec<String> {
    let mut options: Vec<String> = ["--only-binary=:all:", "--implementation=cp"].map(str::to_owned).into();
    options.push(format!("--python-version={PYTHON_VERSION}"));
    options.push(format!("--abi={PYTHON_ABI}"));
    options.extend(GLIBC.rev().map(|minor| format!("--platform=manylinux_2_{minor}_x86_64")));
    options.push("--platform=manylinux2014_x86_64".to_owned());
    options
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().context("starting pip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "pip got no answer from the package index (is this machine online?): it said
{}",
            said.trim()
        );
    }
    Ok(output)
}

/// Reads pip's installation report (format version 1).
fn read_report(json: &[u8]) -> Result<Vec<Offer>> {
    #[derive(Deserialize)]
    struct Report {
        install: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        download_info: Download,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Download {
        url: String,
        #[serde(default)]
        archive_info: Archive,
    }
    #[derive(Deserialize, Default)]
    struct Archive {
        /// `sha256=…`; older than `hashes`.
        hash: Option<String>,
        #[serde(default)]
        hashes: Hashes,
    }
    #[derive(Deserialize, Default)]
    struct Hashes {
        sha256: Option<String>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
        version: String,
    }

    let report: Report = serde_json::from_slice(json).context("reading pip's report")?;
    let offer = |item: Item| {
        let Archive { hash, hashes } = item.download_info.archive_info;
        let older = || Some(hash?.strip_prefix("sha256=")?.to_owned());
        Offer {
            name: item.metadata.name.to_lowercase(),
            version: item.metadata.version,
            url: item.download_info.url,
            sha256: hashes.sha256.or_else(older),
        }
    };
    Ok(report.install.into_iter().map(offer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_gives_addresses_and_hashes_old_and_new() {
        let report = br#"{"version": "1", "install": [
            {"download_info": {"url": "https://index.invalid/a/Torch-1.0-py3.whl",
                               "archive_info": {"hash": "sha256=aa", "hashes": {"sha256": "aa"}}},
             "metadata": {"name": "Torch", "version": "1.0", "requires_dist": ["nvidia-x==1; extra == 'x'"]}},
            {"download_info": {"url": "https://index.invalid/b/x-2-py3.whl", "archive_info": {"hash": "sha256=bb"}},
             "metadata": {"name": "x", "version": "2"}},
            {"download_info": {"url": "file:///wheels/y-3-py3.whl", "dir_info": {}},
             "metadata": {"name": "y", "version": "3"}}]}"#;
        let offers = read_report(report).unwrap();
        assert_eq!(offers[0].name, "torch");
        assert_eq!(offers[0].file(), "Torch-1.0-py3.whl");
        let hashes: Vec<_> = offers.iter().map(|offer| offer.sha256.as_deref()).collect();
        assert_eq!(hashes, [Some("aa"), Some("bb"), None]);
    }

    #[test]
    fn pip_versions_compare_as_numbers() {
        assert_eq!(version("pip 23.2.1 from /lib/pip (python 3.11)"), Some((23, 2)));
        assert_eq!(version("pip 9.0 from x"), Some((9, 0)));
        assert!(version("pip 23.0.1 from x").unwrap() < FIRST_GOOD_PIP);
        assert_eq!(version("nonsense"), None);
    }
}
