//! The program from outside: exit codes and messages of `run`, and the conversation of `serve`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};

use promptfield_core::job::outcome::FailureClass;
use promptfield_core::wire::trainer_wire::Reply;
use serde_json::{Value, json};

use crate::fixture::{job_json, tiny, trainer};

fn run(root: &Path, job: &Value) -> Output {
    let path = root.join("job.json");
    fs_err::write(&path, job.to_string()).unwrap();
    trainer().arg("run").arg(path).output().unwrap()
}

#[test]
fn run_shows_the_log_and_adopts_the_second_time() {
    let root = tempfile::tempdir().unwrap();
    let job = job_json(&tiny(root.path()), &root.path().join("seed1"), json!({}));
    let first = run(root.path(), &job);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(
        String::from_utf8(first.stdout).unwrap(),
        fs_err::read_to_string(root.path().join("seed1/log.txt")).unwrap()
    );
    let again = run(root.path(), &job);
    assert!(again.status.success() && again.stdout.is_empty());
    assert!(String::from_utf8(again.stderr).unwrap().contains("is complete already"));
}

#[test]
fn run_tells_bad_input_from_failure_and_names_the_field() {
    let root = tempfile::tempdir().unwrap();
    let data = tiny(root.path());
    let output = root.path().join("seed1");
    let ends = |changes: Value, code: i32, expected: &str| {
        let ended = run(root.path(), &job_json(&data, &output, changes));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    ends(json!({"method": "alinednorm"}), 2, "did you mean `alignednorm`?");
    ends(json!({"shots": 0}), 2, "`shots`: `0`");
    ends(json!({"seed": "one"}), 2, "`seed`: `one`");
    ends(json!({"shot": 4}), 2, "did you mean `shots`?");
    ends(json!({"overrides": {"epoch": 4}}), 2, "did you mean `epochs`?");
    ends(json!({"precision": "bf16"}), 2, "`precision`: `bf16`");
    ends(json!({"dataset": "tinny"}), 2, "did you mean `tiny`?");
    ends(json!({"weights": "/nowhere/w.safetensors"}), 1, "/nowhere/w.safetensors");
    assert!(!output.exists());

    let missing = trainer().args(["run", "/nowhere/job.json"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn bfloat16_is_multiplied_as_the_environment_says_and_comes_to_the_same() {
    let root = tempfile::tempdir().unwrap();
    let data = tiny(root.path());
    let path = root.path().join("bf16.json");
    let losses = |how: &str, said: &str| -> Vec<f64> {
        let job = job_json(&data, &root.path().join(how), json!({"precision": "amp_bf16"}));
        fs_err::write(&path, job.to_string()).unwrap();
        let ended = trainer().env("PROMPTFIELD_CPU_BF16", how).arg("run").arg(&path).output().unwrap();
        let log = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success() && log.contains(said), "{log}{}", String::from_utf8_lossy(&ended.stderr));
        let loss = |line: &str| line.split(" loss ").nth(1)?.split(' ').next()?.parse().ok();
        log.lines().filter_map(loss).collect()
    };
    let native = losses("native", "precision amp_bf16 (native)");
    let emulated = losses("emulated", "precision amp_bf16 (rounded, multiplied in single precision)");
    assert!(!native.is_empty() && native.len() == emulated.len(), "{native:?}, {emulated:?}");
    // Both round alike, but libtorch's own attention rounds between its steps.
    assert!(native.iter().zip(&emulated).all(|(a, b)| (a - b).abs() < 0.05 * b.abs()), "{native:?}, {emulated:?}");
}

/// A trainer that serves, and the worker's ends of its pipes.
struct Serving {
    child: Child,
    requests: Option<ChildStdin>,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Serving {
    fn start() -> Self {
        let mut child = trainer().arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut serving = Self { child, requests, replies };
        let Reply::Ready { version, devices, .. } = serving.hear() else { panic!("not ready") };
        assert_eq!((version.as_str(), devices[0].as_str()), (promptfield_core::VERSION, "cpu"));
        serving
    }

    fn send(&mut self, request: &Value) {
        writeln!(self.requests.as_ref().unwrap(), "{request}").unwrap();
    }

    fn hear(&mut self) -> Reply {
        serde_json::from_str(&self.replies.next().unwrap().unwrap()).unwrap()
    }

    /// Everything up to the reply that ends the job, which is the last.
    fn hear_job(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            replies.push(self.hear());
            if let Some(Reply::Completed { .. } | Reply::Failed { .. } | Reply::Cancelled { .. }) = replies.last() {
                return replies;
            }
        }
    }

    /// Ends the input and waits for the trainer to go.
    fn end(mut self) {
        self.requests = None;
        for line in self.replies.by_ref() {
            serde_json::from_str::<Reply>(&line.unwrap()).unwrap();
        }
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_resident_trainer_runs_fails_and_cancels_jobs() {
    let root = tempfile::tempdir().unwrap();
    let data = tiny(root.path());
    let job = |output: &str, changes| job_json(&data, &root.path().join(output), changes);
    let mut trainer = Serving::start();

    trainer.send(&json!({"type": "run", "id": 1, "job": job("seed1", json!({}))}));
    let replies = trainer.hear_job();
    let Some(Reply::Completed { id: 1, outcome }) = replies.last() else { panic!("{replies:?}") };
    assert_eq!(outcome.result.unwrap().total, 9);
    let steps = replies.iter().filter_map(|reply| match reply {
        Reply::Metrics { step, .. } => Some(*step),
        _ => None,
    });
    // 3 epochs of 3 steps; however fast they go by, the last step of each is there.
    let steps: Vec<u64> = steps.collect();
    assert!([2, 5, 8].iter().all(|step| steps.contains(step)), "{steps:?}");
    let Some(Reply::Progress { progress, .. }) = replies.iter().rfind(|reply| matches!(reply, Reply::Progress { .. }))
    else {
        panic!("{replies:?}")
    };
    assert_eq!((progress.epoch, progress.step), (3, progress.steps));

    trainer.send(&json!({"type": "run", "id": 2, "job": job("o", json!({"weights": "/nowhere"}))}));
    let Some(Reply::Failed { id: 2, failure, .. }) = trainer.hear_job().pop() else { panic!("not failed") };
    assert_eq!(failure.class, FailureClass::Missing);

    trainer.send(&json!({"type": "nonsense", "id": 3}));
    assert!(matches!(trainer.hear(), Reply::Failed { id: 3, failure, .. } if failure.class == FailureClass::Bug));

    let long = json!({"overrides": {"epochs": 1_000_000}});
    trainer.send(&json!({"type": "run", "id": 4, "job": job("long", long.clone())}));
    assert!(matches!(trainer.hear(), Reply::Log { id: 4, .. }));
    trainer.send(&json!({"type": "cancel", "id": 4}));
    assert!(matches!(trainer.hear_job().pop(), Some(Reply::Cancelled { id: 4 })));

    // The worker goes while a job runs.
    trainer.send(&json!({"type": "run", "id": 5, "job": job("long", long)}));
    assert!(matches!(trainer.hear(), Reply::Log { id: 5, .. }));
    trainer.end();
    assert!(!root.path().join("long").exists() && root.path().join("long.partial/log.txt").exists());
}
