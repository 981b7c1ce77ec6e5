//! Whole runs, as small as they can be.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test, in the repository's root, and the folder that it works and leaves its results in.
struct Bench {
    folder: TempDir,
    arguments: Vec<String>,
}

impl Bench {
    /// A measurement that needs programs which another package makes.
    fn new(name: &str, programs: &[&str]) -> Self {
        for program in programs {
            let path = Path::new(env!("CARGO_BIN_EXE_promptfield-bench")).with_file_name(program);
            assert!(path.is_file(), "`cargo build --package {program}` makes {}", path.display());
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("results")).unwrap();
        Self { folder, arguments: vec![name.to_owned()] }
    }

    /// With more arguments, separated by spaces.
    fn with(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split(' ').map(str::to_owned));
        self
    }

    fn output(&self) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_promptfield-bench"));
        command.current_dir(root).args(&self.arguments).arg("--folder").arg(folder);
        command.arg("--results").arg(folder.join("results")).output().unwrap()
    }

    /// Runs it: what it printed, and the report that it wrote.
    fn run(&self) -> (String, Value) {
        let Output { status, stdout, stderr } = self.output();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(status.success(), "{stderr}");
        let left = std::fs::read_dir(self.folder.path()).unwrap().count();
        assert_eq!(left, 1, "only the results are left");
        let report = format!("results/{}.json", self.arguments[0]);
        let report = std::fs::read(self.folder.path().join(report)).unwrap();
        (stdout, serde_json::from_slice(&report).unwrap())
    }
}

#[test]
fn a_tiny_run_measures_everything_but_the_peers() {
    let bench = Bench::new("coordinator", &["promptfield"])
        .with("--jobs 20 --slots 2 --repeat 1 --loaded 40 --single 3 --peers none");
    let (stdout, report) = bench.run();
    assert!(stdout.contains("| alone | 20 | 2 |"), "{stdout}");
    assert!(stdout.contains("| train, then test | 20 | 2 |"), "{stdout}");
    assert!(stdout.contains("| alone | 20 | 3 × 1 |"), "{stdout}");
    assert!(stdout.contains("| 40 | 10 |"), "{stdout}");
    for cell in report["cells"].as_array().unwrap() {
        let run = &cell["runs"][0];
        assert!(run["submit_s"].as_f64().unwrap() < run["wall_s"].as_f64().unwrap(), "{run}");
        assert!(run["requests"]["reports"].as_u64().unwrap() > 0, "{run}");
        assert!(run["database_bytes"].as_u64().unwrap() > 0, "{run}");
    }
    assert_eq!(report["waiting"][1]["jobs"], 40);
    assert_eq!(report["peers"], Value::Array(Vec::new()));
}

#[test]
fn a_tiny_run_measures_the_trainer() {
    let bench = Bench::new("trainer", &["promptfield-trainer"])
        .with("--backbones miniature --cells 5x2,7x3 --steps 2 --images 2 --threads 1 --no-peer");
    let (stdout, report) = bench.run();
    assert!(stdout.contains("| 5, 2 |") && stdout.contains("| 7, 3 |"), "{stdout}");
    assert!(stdout.contains("Plain PyTorch wasn't measured: it was left out."), "{stdout}");
    let ours = &report["cells"][1]["ours"];
    assert_eq!(ours["losses"].as_array().unwrap().len(), 2);
    assert!(ours["step_s"][1].as_f64().unwrap() > 0.0 && ours["peak_bytes"].as_u64().unwrap() > 1 << 20, "{ours}");
}
