//! A matrix from beginning to end.

use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::layout::EVALUATION_FILE;

use crate::site::{QUICK, Site, text};

#[test]
fn an_experiment_runs_and_a_second_time_there_is_nothing_to_do() {
    let site = Site::new();
    site.write("quick.toml", QUICK);
    let first = site.run(&["run", "quick.toml"]);
    let (stdout, stderr) = (text(&first.stdout), text(&first.stderr));
    assert!(first.status.success(), "{stderr}");
    for word in ["icons", "AlignedNorm", "CLIP (zero-shot)", "Base", "New", "H"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
    assert!(!stdout.contains('*'), "nothing is provisional: {stdout}");
    assert!(stderr.contains("4 jobs: "), "{stderr}");
    let folders = site.complete_folders();
    assert_eq!(folders.len(), 4, "{folders:?}");
    assert!(folders[0].starts_with("base2new/test_new/icons/shots_0/ZeroshotCLIP/clip_mini/seed0"), "{folders:?}");

    let again = site.run(&["run", "quick.toml"]);
    assert_eq!(text(&again.stdout), stdout, "the table is the same");
    assert!(text(&again.stderr).contains("known already"), "{}", text(&again.stderr));

    // Another coordinator, which knows nothing, finds the folders.
    std::fs::remove_dir_all(site.path("var")).unwrap();
    let adopted = site.run(&["run", "quick.toml"]);
    assert_eq!(text(&adopted.stdout), stdout, "the table is the same");
    assert_eq!(text(&adopted.stderr).matches("already complete").count(), 4, "{}", text(&adopted.stderr));
}

#[test]
fn a_job_s_numbers_by_class_can_be_seen() {
    let site = Site::new();
    site.write("quick.toml", &QUICK.replace("\"alignednorm\", ", ""));
    let mut up = site.start(&["up", "quick.toml"]);
    let mut said = String::new();
    while !said.contains("the coordinator stays") {
        assert!(std::io::BufRead::read_line(&mut up.stderr, &mut said).unwrap() > 0, "{said}");
    }
    let url = up.url.clone();
    let results = |more: &[&str]| site.run(&[&["results", "--coordinator", url.as_str()][..], more].concat());
    let output = results(&["--job", "2"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stdout.starts_with("zero_shot on icons, new classes\n"), "{stdout}");
    for word in ["Class", "Images", "Accuracy", "Most often taken for", "macro-F1", "calibration error"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
    let document: Evaluation = serde_json::from_slice(&results(&["--job", "2", "--json"]).stdout).unwrap();
    let folder = site.complete_folders().into_iter().find(|folder| folder.contains("test_new")).unwrap();
    let kept = std::fs::read_to_string(site.path("output").join(folder).join(EVALUATION_FILE)).unwrap();
    assert_eq!(document, Evaluation::parse(&kept).unwrap());
    for class in &document.classes {
        assert!(stdout.contains(&class.name), "{}: {stdout}", class.name);
    }

    let compared = results(&["1", "--compare", "published"]);
    assert!(text(&compared.stdout).contains("No row has published numbers beside it"), "{}", text(&compared.stdout));
    let wrong = results(&["1", "--compare", "mine"]);
    assert!(wrong.status.code() == Some(2) && text(&wrong.stderr).contains("published"), "{}", text(&wrong.stderr));

    let missing = results(&["--job", "77"]);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("there is no job 77"), "{}", text(&missing.stderr));
    assert_eq!(results(&["1", "--job", "2"]).status.code(), Some(2));
    up.child.kill().unwrap();
    up.child.wait().unwrap();
}

#[test]
fn what_the_command_line_says_wins_and_json_is_json() {
    let site = Site::new();
    let args = [
        "run",
        "base_to_new",
        "--datasets",
        "icons",
        "--methods",
        "mmrlpp",
        "--shots",
        "2",
        "--set",
        "epochs=1",
        "--json",
    ];
    let output = site.command(&args).env("SEEDS", "3").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &results["table"]["rows"][0];
    assert_eq!(
        (row["dataset"].as_str(), row["method"].as_str(), row["shots"].as_u64()),
        (Some("icons"), Some("mmrlpp"), Some(2))
    );
    assert_eq!(row["base"]["summary"]["n"].as_u64(), Some(1));
    let folders = site.complete_folders();
    assert!(
        folders.iter().all(|folder| folder.contains("/MMRLpp/clip_mini-") && folder.ends_with("/seed3")),
        "{folders:?}"
    );
}

#[test]
fn few_shot_and_cross_dataset_run_too() {
    let site = Site::new();
    let few_shot = QUICK
        .replace("base_to_new", "few_shot")
        .replace("shots = [4]", "shots = [1, 2]")
        .replace("epochs = 2", "epochs = 1");
    site.write("few_shot.toml", &few_shot);
    let output = site.run(&["run", "few_shot.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("1 shot ") && stdout.contains("2 shots"), "{stdout}");

    let transfer = QUICK
        .replace("base_to_new", "cross_dataset")
        .replace("datasets = [\"icons\"]", "source = \"icons\"\ndatasets = [\"caltech101\"]")
        .replace("epochs = 2", "epochs = 1");
    site.write("transfer.toml", &transfer);
    let output = site.run(&["run", "transfer.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("source") && stdout.contains("target"), "{stdout}");
    let folders = site.complete_folders();
    let target = |folder: &String| {
        folder.starts_with("base2new/test_new/caltech101/shots_4/ALIGNEDNORM/clip_mini_cross_datasets/seed1")
    };
    assert!(folders.iter().any(target), "{folders:?}");
}

#[test]
fn a_data_set_that_is_missing_fails_by_name_and_the_rest_goes_on() {
    let site = Site::new();
    site.write("quick.toml", &QUICK.replace("[\"icons\"]", "[\"dtd\", \"icons\"]").replace("\"alignednorm\", ", ""));
    let output = site.run(&["run", "quick.toml"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("failed: zero_shot on dtd") && stderr.contains("dtd"), "{stderr}");
    assert!(text(&output.stdout).contains("provisional: 2 of 4 jobs"), "{}", text(&output.stdout));
}
