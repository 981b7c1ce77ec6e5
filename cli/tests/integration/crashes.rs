//! `kill -9` of every part in the middle of a run: the table is complete in the end, and each result is there once. What is ended
//! in good order goes on elsewhere.

use std::io::BufRead;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::site::{QUICK, Running, Served, Site, children, kill, text};

/// Long enough that there is something to kill: a training of twenty epochs.
pub(crate) const LONGER: &str = r#"
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
pub(crate) async fn until_running(run: &Running) {
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
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("goes on from here"), "{}", text(&output.stderr));
    assert!(workers.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()), "no worker is left");
    site.write("quick.toml", QUICK);
    assert!(site.run(&["run", "longer.toml"]).status.success());
}

#[test]
fn a_training_that_is_given_back_goes_on_at_another_machine() {
    let [home, one, other, undisturbed] = [(); 4].map(|()| Site::new());
    let experiment = LONGER.replace("seeds = [1, 2]", "seeds = [1]").replace("epochs = 20", "epochs = 40");
    for site in [&home, &undisturbed] {
        site.write("longer.toml", &experiment);
    }
    let served = Served::at(&home);
    let url = served.0.url.as_str();
    let submitted = home.run(&["submit", "longer.toml", "--coordinator", url]);
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));

    // No worker outlives the test.
    let work_at = |site: &Site| {
        let mut command = site.command(&["work", "--until-stdin-ends", "--coordinator", url]);
        command.env("PROMPTFIELD_WORKER", site.path("").display().to_string()).stdin(Stdio::piped()).spawn().unwrap()
    };
    let mut work = work_at(&one);
    until(|| one.folder_of("state.safetensors").is_some());
    terminate(&work);
    assert!(work.wait().unwrap().success());
    assert_eq!(one.complete_folders(), Vec::<String>::new());

    let mut work = work_at(&other);
    let results = home.run(&["submit", "longer.toml", "--wait", "--coordinator", url]);
    terminate(&work);
    work.wait().unwrap();
    assert!(results.status.success(), "{}", text(&results.stderr));
    let training = other.folder_of("model.safetensors").unwrap();
    let log = training.parent().unwrap().join("log.txt");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("epoch [1/40]") && log.contains("resumed after epoch ["), "{log}");

    assert!(undisturbed.run(&["run", "longer.toml"]).status.success());
    let weights = |folder: PathBuf| std::fs::read(folder.join("model.safetensors")).unwrap();
    let expected = weights(undisturbed.folder_of("model.safetensors").unwrap());
    assert!(weights(training) == expected, "the checkpoint has the bytes of an undisturbed run");
}

/// Asks a process to end.
fn terminate(child: &Child) {
    let status = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

fn until(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < end, "it did not happen within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}
