//! Trainers that are killed, as by a power cut, at moments that nobody chose.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use promptfield_core::job::layout::LOG_FILE;
use promptfield_core::method::{Declaration, Methods};
use serde_json::json;

use crate::fixture::{checkpoint, job_json, tiny, trainer};

/// Runs the job, for `limit` at most and then no further; returns what it had printed.
fn run(job: &Path, limit: Option<Duration>) -> String {
    let mut trainer = trainer().arg("run").arg(job).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = trainer.stdout.take().unwrap();
    let (said, hear) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        said.send(text).unwrap();
    });
    let early = limit.and_then(|limit| hear.recv_timeout(limit).ok());
    if limit.is_some() {
        trainer.kill().unwrap();
    }
    let text = early.unwrap_or_else(|| hear.recv().unwrap());
    let status = trainer.wait().unwrap();
    assert!(status.success() || limit.is_some(), "{status}: {text}");
    text
}

#[test]
fn killed_at_random_moments_a_job_ends_with_the_same_checkpoint_and_the_whole_log() {
    const KILLS: u32 = 3;
    for method in Methods::built_in().list().iter().filter(|known| known.learns).map(Declaration::key) {
        let root = tempfile::tempdir().unwrap();
        let data = tiny(root.path());
        let job = |output: &str| {
            let path = root.path().join(format!("{output}.json"));
            let job = job_json(&data, &root.path().join(output), json!({"method": method}));
            fs_err::write(&path, job.to_string()).unwrap();
            path
        };
        let checkpoint = |output: &str| checkpoint(&root.path().join(output));
        let begun = Instant::now();
        run(&job("whole"), None);
        let whole = begun.elapsed();

        let mut moments = Vec::new();
        let mut said = String::new();
        for kill in 0..KILLS {
            let share = RandomState::new().hash_one(kill) as f64 / u64::MAX as f64;
            moments.push(whole.mul_f64(share));
            // A line that was cut off in the middle is not one.
            let text = run(&job("killed"), moments.last().copied());
            said.push_str(text.rsplit_once('\n').map_or("", |(lines, _)| lines));
            said.push('\n');
        }
        said.push_str(&run(&job("killed"), None));
        assert_eq!(checkpoint("killed"), checkpoint("whole"), "{method}, killed after {moments:?} of {whole:?}");
        let log = fs_err::read_to_string(root.path().join("killed").join(LOG_FILE)).unwrap();
        let mut lines = log.lines();
        for line in said.lines().filter(|line| !line.is_empty()) {
            assert!(
                lines.any(|kept| kept == line),
                "{method}, killed after {moments:?}: the log lost `{line}`:\n{log}"
            );
        }
    }
}
