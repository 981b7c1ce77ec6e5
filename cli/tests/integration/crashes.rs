//! `kill -9` of every part in the middle of a run: the table is complete in the end, and each result is there once.

use std::io::BufRead;

use crate::site::{QUICK, Running, Site, children, kill, text};

/// Long enough that there is something to kill: a training of twenty epochs.
const LONGER: &str = r#"
    name = "longer"
    protocol = "base_to_new"
    methods = ["alignednorm"]
    datasets = ["icons"]
    seeds = [1, 2]
    shots = [4]
    backbone = "clip-mini"
    [overrides]
    epochs = 20
"#;

/// Waits until a job reports progress: something is running.
async fn until_running(run: &Running) {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut events = reqwest::get(format!("{}/api/v1/events", run.url)).await.unwrap();
    let jobs = reqwest::get(format!("{}/api/v1/experiments/1/jobs?state=running", run.url)).await.unwrap();
    if jobs.text().await.unwrap().contains("\"running\"") {
        return;
    }
    let mut seen = String::new();
    while !seen.contains("\"to\":\"running\"") {
        let chunk = events.chunk().await.unwrap().expect("the coordinator goes on");
        seen.push_str(&text(&chunk));
    }
}

/// The table of an undisturbed run, to hold a disturbed one's against.
fn undisturbed() -> String {
    let site = Site::new();
    site.write("longer.toml", LONGER);
    let output = site.run(&["run", "longer.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn a_trainer_and_a_worker_that_are_killed_are_replaced() {
    let site = Site::new();
    site.write("longer.toml", LONGER);
    let run = site.start(&["run", "longer.toml"]);
    until_running(&run).await;
    let trainers: Vec<u32> = run.workers().into_iter().flat_map(children).collect();
    kill(trainers[0]);
    let workers = run.workers();
    kill(workers[1]);
    let output = run.finish();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), undisturbed(), "the numbers are those of an undisturbed run");
    assert_eq!(site.complete_folders().len(), 4);
}

#[tokio::test]
async fn a_coordinator_that_is_killed_goes_on_where_it_was() {
    let site = Site::new();
    site.write("longer.toml", LONGER);
    let mut run = site.start(&["run", "longer.toml"]);
    until_running(&run).await;
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    // Its workers notice that it is gone, and go: the pipe that they share ends with the last of them.
    let mut rest = String::new();
    while run.stderr.read_line(&mut rest).unwrap() > 0 {}

    let again = site.run(&["run", "longer.toml"]);
    let stderr = text(&again.stderr);
    assert!(again.status.success(), "{stderr}");
    assert!(stderr.contains("known already"), "the experiment was not lost: {stderr}");
    assert!(!text(&again.stdout).contains('*'));
    assert_eq!(site.complete_folders().len(), 4);
}

#[tokio::test]
async fn ctrl_c_leaves_everything_in_order() {
    let site = Site::new();
    site.write("longer.toml", LONGER);
    let run = site.start(&["run", "longer.toml"]);
    until_running(&run).await;
    let workers = run.workers();
    let signal = std::process::Command::new("kill").args(["-INT", &run.child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let output = run.finish();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("goes on from here"), "{}", text(&output.stderr));
    assert!(workers.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()), "no worker is left");
    site.write("quick.toml", QUICK);
    assert!(site.run(&["run", "longer.toml"]).status.success());
}
