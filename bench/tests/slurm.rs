//! `cargo xtask bench slurm`, as small as it can be.

use std::path::Path;
use std::process::Command;

#[test]
fn both_ways_give_the_same_results() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = folder.path().join("tiny.toml");
    let text = "name = \"tiny\"\nprotocol = \"base_to_new\"\nmethods = [\"alignednorm\"]\ndatasets = [\"icons\"]\nseeds = [1]\n\
                shots = [1]\nbackbone = \"clip-mini\"\n[overrides]\nepochs = 1\n";
    std::fs::write(&experiment, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_promptfield-bench"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    command.args(["slurm", "--repeat", "1", "--gpus", "1", "--experiment"]).arg(&experiment);
    command.arg("--folder").arg(folder.path()).arg("--results").arg(folder.path().join("results"));
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report = std::fs::read(folder.path().join("results/slurm.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((report["jobs"].as_u64(), report["equal"].as_u64()), (Some(2), Some(2)), "{report:#}");
    for way in ["pilots", "sbatch"] {
        let run = &report[way][0];
        let [first, last, empty] = ["first_s", "wall_s", "empty_s"].map(|name| run[name].as_f64().unwrap());
        assert!(0.0 < first && first < last && last < empty, "{run}");
    }
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("| an sbatch for each job |") && table.contains("2 of 2 results are equal"), "{table}");
}
