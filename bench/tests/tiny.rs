//! Whole runs, as small as they can be.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
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

    /// With a file among the results.
    fn with_file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join("results").join(name), text).unwrap();
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

const TINY: &str = r#"
name = "tiny"
protocol = "base_to_new"
methods = ["alignednorm", "zero_shot"]
datasets = ["icons"]
seeds = [1]
shots = [1]
backbone = "clip-mini"
[overrides]
epochs = 1
"#;

/// A trainer's report in which steps of ours take so many seconds, half as many with the cache, and plain `PyTorch`'s twice as many.
fn trainer_report(step_s: f64) -> String {
    let times = |step_s: f64| {
        json!({
            "losses": [], "step_s": [9.0, step_s], "step_cpu_s": [9.0, 2.0 * step_s], "peak_bytes": 1,
            "evaluation_s": [9.0, step_s], "evaluation_cpu_s": [9.0, 2.0 * step_s],
        })
    };
    let with = |mut times: Value, more: Value| {
        times.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        times
    };
    let ours = json!({ "version": "x", "gemm_flops_per_cpu_s": 1.0, "text_rows": [0, []], "file_bytes": 1 });
    let cell = |batch| {
        json!({
            "backbone": "vit_b16", "classes": 50, "batch": batch, "images": 8, "ours": with(times(step_s), ours.clone()),
            "warm": times(step_s / 2.0), "plain": { "Ok": with(times(2.0 * step_s), json!({ "version": "x" })) },
        })
    };
    let machine = json!({ "processor": "x", "cores": 2, "kernel": "x", "file_system": "x", "load": "x" });
    json!({ "machine": machine, "threads": 2, "cells": [cell(4), cell(32)] }).to_string()
}

#[test]
fn a_tiny_matrix_runs_in_all_ways_and_the_full_one_is_simulated() {
    let bench = Bench::new("matrix", &["promptfield", "promptfield-trainer"])
        .with_file("trainer.json", &trainer_report(1.0))
        .with_file("tiny.toml", TINY)
        .with("--workers 1 --repeat 1 --gpus 1,8 --experiment");
    let experiment = bench.folder.path().join("results/tiny.toml");
    let (stdout, report) = bench.with(experiment.to_str().unwrap()).run();

    let demo = &report["demo"];
    assert_eq!((&demo["jobs"], &demo["equal"]), (&json!(4), &json!(8)), "{demo}");
    for run in ["ours", "fresh", "fresh_one_thread"].map(|way| &demo[way][0]) {
        assert!(run["wall_s"].as_f64().unwrap() > 0.0 && run["cpu_s"].as_f64().unwrap() > 0.1, "{run}");
        let gaps: Vec<f64> = run["gaps_s"].as_array().unwrap().iter().map(|gap| gap.as_f64().unwrap()).collect();
        assert!(gaps.len() == 3 && gaps.iter().all(|gap| *gap > 0.0), "one slot had all four jobs: {run}");
    }
    assert!(stdout.contains("8 of 8 results of the loops are equal"), "{stdout}");

    let runs = report["full"]["runs"].as_array().unwrap();
    let wall = |on, gpus, who| {
        let run = runs.iter().find(|run| run["on"] == on && run["gpus"] == gpus && run["who"] == who);
        run.unwrap()["wall_s"].as_f64().unwrap()
    };
    for on in ["measured", "rtx3090"] {
        for gpus in [1, 8] {
            let [scripts, none, some, whole] =
                ["scripts", "no_cache", "cache", "whole_cache"].map(|who| wall(on, gpus, who));
            // A small cache saves next to nothing, and what it does save can make the last jobs begin in a worse order.
            assert!(
                whole < some && some <= none * 1.05 && none < scripts,
                "{on}, {gpus}: {whole} {some} {none} {scripts}"
            );
        }
        assert!(wall(on, 8, "scripts") * 8.0 >= wall(on, 1, "scripts") * 0.999);
    }
    assert!(stdout.contains("| 8 | scripts, plain PyTorch |"), "{stdout}");
}

#[test]
fn without_step_times_the_full_matrix_says_what_makes_them() {
    let output = Bench::new("matrix", &[]).with("--no-demo").output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains("cargo xtask bench trainer --backbones vit_b16"), "{stderr}");
}
