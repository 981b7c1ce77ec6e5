//! Where the repository and its build outputs lie, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The repository this xtask was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

/// What `cargo metadata` prints, as far as it's used here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

/// A package, of the workspace or among its dependencies.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
}

impl Workspace {
    pub(crate) fn here() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: package.parent().unwrap_or(package).to_path_buf() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A program started in the repository root.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The cargo that runs this xtask.
    pub(crate) fn cargo(&self) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Builds the two programs that people and tests start.
    pub(crate) fn build_programs(&self) -> Result<()> {
        let packages = ["--package", "promptfield", "--package", "promptfield-trainer"];
        let built = status(self.cargo().arg("build").args(packages))?;
        ensure!(built.success(), "the build failed: see the messages above");
        Ok(())
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target_directory(&self) -> Result<PathBuf> {
        Ok(self.metadata(&["--no-deps"])?.target_directory)
    }

    /// The workspace's packages and all their dependencies, on every platform.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        Ok(self.metadata(&[])?.packages)
    }

    fn metadata(&self, options: &[&str]) -> Result<Metadata> {
        let mut cargo = self.cargo();
        let output = cargo
            .args(["metadata", "--format-version", "1"])
            .args(options)
            .output()
            .context("running cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("reading the output of cargo metadata")
    }
}

/// Runs a command with this process's standard streams.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("starting {}", command.get_program().display()))
}

/// This process's exit code, after a program that it ran in its place.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    // Without a code the process died by a signal.
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
