//! A machine to run on: settings in a folder of their own, over the bundled weights and images.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use tempfile::TempDir;

/// An experiment that takes seconds: two epochs over four images of each class.
pub(crate) const QUICK: &str = r#"
    name = "quick"
    protocol = "base_to_new"
    methods = ["alignednorm", "zero_shot"]
    datasets = ["icons"]
    seeds = [1]
    shots = [4]
    backbone = "clip-mini"
    [overrides]
    epochs = 2
"#;

pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.settings("");
        site
    }

    /// A machine on which nothing is computed: these settings and no others.
    pub(crate) fn with_only(settings: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.write("promptfield.toml", settings);
        site
    }

    /// Writes the settings, with `more` at their end.
    pub(crate) fn settings(&self, more: &str) {
        let demo = repository().join("demo");
        assert!(trainer().is_file(), "build the trainer first: cargo build -p promptfield-trainer");
        let text = format!(
            "[coordinator]\nlisten = \"127.0.0.1:0\"\n[paths]\ndata = \"{}\"\ndatasets = \"{}\"\n\
             [backbones]\nclip-mini = \"{}\"\n[local]\nworkers = 2\n{more}",
            demo.display(),
            demo.join("datasets").display(),
            demo.join("clip-mini.safetensors").display()
        );
        self.write("promptfield.toml", &text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.prepared(env!("CARGO_BIN_EXE_promptfield"), args)
    }

    /// Another program, or this one elsewhere.
    pub(crate) fn program(&self, program: &Path, args: &[&str]) -> Command {
        self.prepared(&program.display().to_string(), args)
    }

    fn prepared(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).env("PROMPTFIELD_THREADS", "1");
        for name in [
            "SEEDS",
            "SHOTS",
            "DATASETS",
            "PROMPTFIELD_SETTINGS",
            "PROMPTFIELD_LISTEN",
            "PROMPTFIELD_COORDINATOR",
            "PROMPTFIELD_TOKEN",
            "PROMPTFIELD_TOKEN_FILE",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts `promptfield run FILE` and reads where its coordinator is.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::by(self.command(args))
    }

    /// The output folders that are complete, below `output/`.
    pub(crate) fn complete_folders(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.path("output"), &mut |path| {
            if path.ends_with("manifest.json") {
                let folder = path.parent().unwrap().strip_prefix(self.path("output")).unwrap();
                found.push(folder.to_string_lossy().into_owned());
            }
        });
        found.sort();
        found
    }

    /// The folder of a file of this name, below `output/`.
    pub(crate) fn folder_of(&self, name: &str) -> Option<PathBuf> {
        let mut found = None;
        walk(&self.path("output"), &mut |path| {
            if path.ends_with(name) {
                found = path.parent().map(Path::to_owned);
            }
        });
        found
    }
}

/// A `run` in progress.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stderr: BufReader<ChildStderr>,
    pub(crate) url: String,
}

impl Running {
    /// Starts a command with a coordinator in it, and reads where that is.
    pub(crate) fn by(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("coordinator at http") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "the coordinator did not start: {said}");
        }
        let url =
            said.lines().last().unwrap().split([' ', ',']).find(|word| word.starts_with("http")).unwrap().to_owned();
        Self { child, stderr, url }
    }

    /// The processes it has started: its workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Output {
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(&mut self.stderr, &mut stderr).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Output { stderr, ..output }
    }
}

/// A coordinator that ends when the test does.
pub(crate) struct Served(pub(crate) Running);

impl Served {
    pub(crate) fn at(site: &Site) -> Self {
        Self(site.start(&["serve"]))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.child.kill();
        let _ = self.0.child.wait();
    }
}

/// The processes that `parent` started and that still live.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task");
    let tasks = std::fs::read_dir(path).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Ends a process as a power cut would.
pub(crate) fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success(), "process {pid} was gone already");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn trainer() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_promptfield")).with_file_name("promptfield-trainer")
}

pub(crate) fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, visit);
        } else {
            visit(&path);
        }
    }
}
