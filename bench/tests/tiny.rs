//! Whole runs, as small as they can be.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_tiny_run_measures_everything_but_the_peers() {
    let bench = Path::new(env!("CARGO_BIN_EXE_promptfield-bench"));
    let promptfield = bench.with_file_name("promptfield");
    assert!(promptfield.is_file(), "`cargo build --package promptfield` makes {}", promptfield.display());
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(bench)
        .args(["coordinator", "--jobs", "20", "--slots", "2", "--repeat", "1", "--loaded", "40", "--single", "3"])
        .args(["--peers", "none", "--promptfield"])
        .arg(&promptfield)
        .arg("--folder")
        .arg(folder.path())
        .arg("--results")
        .arg(folder.path().join("results"))
        .output()
        .unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{stderr}");

    assert!(stdout.contains("| alone | 20 | 2 |"), "{stdout}");
    assert!(stdout.contains("| train, then test | 20 | 2 |"), "{stdout}");
    assert!(stdout.contains("| alone | 20 | 3 × 1 |"), "{stdout}");
    assert!(stdout.contains("| 40 | 10 |"), "{stdout}");

    let json = std::fs::read(folder.path().join("results/coordinator.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    for cell in report["cells"].as_array().unwrap() {
        let run = &cell["runs"][0];
        assert!(run["submit_s"].as_f64().unwrap() < run["wall_s"].as_f64().unwrap(), "{run}");
        assert!(run["requests"]["reports"].as_u64().unwrap() > 0, "{run}");
        assert!(run["database_bytes"].as_u64().unwrap() > 0, "{run}");
    }
    assert_eq!(report["waiting"][1]["jobs"], 40);
    assert_eq!(report["peers"], Value::Array(Vec::new()));
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "only the results are left");
}

#[test]
fn a_tiny_run_measures_the_trainer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bench = Path::new(env!("CARGO_BIN_EXE_promptfield-bench"));
    let trainer = bench.with_file_name("promptfield-trainer");
    assert!(trainer.is_file(), "`cargo build --package promptfield-trainer` makes {}", trainer.display());
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(bench)
        .current_dir(root)
        .args(["trainer", "--backbones", "miniature", "--cells", "5x2,7x3", "--steps", "2", "--images", "2"])
        .args(["--threads", "1", "--no-peer", "--folder"])
        .arg(folder.path())
        .arg("--results")
        .arg(folder.path().join("results"))
        .output()
        .unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("| 5, 2 |") && stdout.contains("| 7, 3 |"), "{stdout}");
    assert!(stdout.contains("Plain PyTorch wasn't measured: it was left out."), "{stdout}");

    let json = std::fs::read(folder.path().join("results/trainer.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    let ours = &report["cells"][1]["ours"];
    assert_eq!(ours["losses"].as_array().unwrap().len(), 2);
    assert!(ours["step_s"][1].as_f64().unwrap() > 0.0 && ours["peak_bytes"].as_u64().unwrap() > 1 << 20, "{ours}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the results are left");
}
