//! What commands say that change nothing, or something else than one might think.

use std::io::BufRead;

use crate::site::{QUICK, Served, Site, text};

const SETTINGS: &str = "[coordinator]\nlisten = \"127.0.0.1:0\"\n[backbones]\n\"ViT-B/16\" = \"weights\"\n";
const EXPERIMENT: &str = "name = \"one\"\nprotocol = \"base_to_new\"\nmethods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\n\
                          seeds = [1, 2]\nbackbone = \"ViT-B/16\"\n";

#[test]
fn commands_that_change_nothing_say_why() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let ask = |args: &[&str]| {
        let output = site.command(args).args(["--coordinator", &served.0.url]).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        (text(&output.stdout), said)
    };
    site.write("one.toml", EXPERIMENT);
    site.write("two.toml", &EXPERIMENT.replace("\"one\"", "\"two\""));
    ask(&["submit", "one.toml"]);
    for (args, answer) in [
        (
            &["retry", "1"][..],
            "0 jobs changed; no job of experiment 1 failed or was cancelled (4 jobs: 2 queued, 2 blocked)\n",
        ),
        (&["retry", "--job", "1"], "0 jobs changed; job 1 is queued: what failed or was cancelled is tried again\n"),
        (&["rerun", "1", "--stale"], "0 jobs changed; no result is stale\n"),
        (&["cancel", "--job", "2"], "1 jobs changed\n"),
        (&["cancel", "--job", "2"], "0 jobs changed; job 2 is cancelled, and has ended\n"),
        (&["cancel", "1"], "3 jobs changed\n"),
        (&["cancel", "1"], "0 jobs changed; all jobs of experiment 1 have ended (4 jobs: 4 cancelled)\n"),
    ] {
        assert_eq!(ask(args).0, answer, "{args:?}");
    }
    let json: serde_json::Value = serde_json::from_str(&ask(&["cancel", "1", "--json"]).0).unwrap();
    assert_eq!(json["changed"], 0);
    assert!(json["because"].as_str().unwrap().contains("have ended"), "{json}");

    // What was cancelled is submitted again.
    let (submitted, said) = ask(&["submit", "one.toml"]);
    assert_eq!(submitted, "experiment 1: 4 jobs: 2 queued, 2 blocked\n");
    assert_eq!(said, "experiment 1: it was cancelled, and goes on; 4 jobs tried again: 4 were cancelled\n");
    assert_eq!(ask(&["submit", "one.toml"]).1, "");

    // Another experiment wants the same jobs.
    ask(&["submit", "two.toml"]);
    let go_on = "4 jobs of it go on: other experiments want them\n";
    assert_eq!(ask(&["cancel", "1"]).0, format!("0 jobs changed; {go_on}"));
    assert_eq!(ask(&["cancel", "1"]).0, format!("0 jobs changed; it was cancelled already; {go_on}"));
    let status = ask(&["status"]).0;
    let lines: Vec<&str> = status.lines().filter(|line| line.contains("base_to_new")).collect();
    let cancelled = "cancelled, 4 go on for other experiments; 4 jobs: 2 queued, 2 blocked";
    assert!(lines[0].contains("one") && lines[0].contains(cancelled), "{status}");
    assert!(lines[1].contains("two") && !lines[1].contains("cancelled"), "{status}");
    let json: serde_json::Value = serde_json::from_str(&ask(&["submit", "one.toml", "--json"]).0).unwrap();
    assert_eq!(json["revived"], "it was cancelled, and goes on");
    assert!(!ask(&["status"]).0.contains("cancelled"));
}

#[test]
fn what_a_job_waits_for_is_said() {
    let site = Site::new();
    site.write("label.toml", &QUICK.replace("[overrides]", "labels = [\"a100\"]\n[overrides]"));
    let mut run = site.start(&["run", "label.toml", "--workers", "1"]);
    let mut said = String::new();
    while !said.contains(" waits: ") || !said.contains("the label `a100`") {
        assert!(run.stderr.read_line(&mut said).unwrap() > 0, "it ended with {said}");
    }
    run.child.kill().unwrap();
    run.child.wait().unwrap();
}
