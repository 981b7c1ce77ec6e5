//! A test's hand in a puppet trainer.

use std::collections::BTreeMap;
use std::path::Path;

use promptfield_core::VERSION;
use promptfield_core::experiment::dataset::Catalogue;
use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::evaluation::{ClassCounts, Evaluation};
use promptfield_core::job::layout::{self, EVALUATION_FILE, MANIFEST_FILE};
use promptfield_core::job::outcome::{
    Failure, FailureClass, FileEntry, Manifest, Outcome, Progress, Seconds, TestResult,
};
use promptfield_core::job::spec::{JobSpec, hex};
use promptfield_core::method::Methods;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_core::wire::trainer_wire::{Reply, Request};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::soon;

/// One trainer process.
pub(crate) struct Puppet {
    pub(crate) pid: i32,
    /// What it was told of GPUs.
    pub(crate) gpus: String,
    requests: Lines<BufReader<OwnedReadHalf>>,
    commands: OwnedWriteHalf,
}

/// A job that the worker gave to a puppet.
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) job: TrainerJob,
}

impl Puppet {
    /// A process that has started and hasn't said anything yet.
    pub(crate) async fn new(stream: UnixStream) -> Self {
        let (read, commands) = stream.into_split();
        let mut requests = BufReader::new(read).lines();
        let first = soon(requests.next_line()).await.unwrap().unwrap();
        let (pid, gpus) = first.split_once(' ').unwrap();
        Self { pid: pid.parse().unwrap(), gpus: gpus.to_owned(), requests, commands }
    }

    pub(crate) async fn say(&mut self, reply: &Reply) {
        self.say_line(&serde_json::to_string(reply).unwrap()).await;
    }

    pub(crate) async fn say_line(&mut self, line: &str) {
        self.command(&format!("out {line}")).await;
    }

    pub(crate) async fn complain(&mut self, line: &str) {
        self.command(&format!("err {line}")).await;
    }

    pub(crate) async fn exit(mut self, code: u8) {
        self.command(&format!("exit {code}")).await;
    }

    async fn command(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    pub(crate) fn kill(self) {
        let pid = rustix::process::Pid::from_raw(self.pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    pub(crate) async fn ready(&mut self, devices: &[&str]) {
        let devices = devices.iter().map(|&device| device.to_owned()).collect();
        self.say(&Reply::Ready {
            version: VERSION.to_owned(),
            devices,
            methods: BTreeMap::new(),
            backbone_sha256: BTreeMap::new(),
            unusable: BTreeMap::new(),
        })
        .await;
    }

    /// The worker's next request; `None` when its end of the pipe is closed or the process is gone.
    pub(crate) async fn hear(&mut self) -> Option<Request> {
        let line = soon(self.requests.next_line()).await.ok().flatten()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The next request, which must be a job.
    pub(crate) async fn hear_job(&mut self) -> Running {
        match self.hear().await {
            Some(Request::Run { id, job }) => Running { id, job: *job },
            other => panic!("a job was expected, not {other:?}"),
        }
    }

    /// The next request, which must cancel `running`; stops it.
    pub(crate) async fn obey_cancel(&mut self, running: &Running) {
        assert_eq!(self.hear().await, Some(Request::Cancel { id: running.id }));
        self.say(&Reply::Cancelled { id: running.id }).await;
    }

    pub(crate) async fn progress(&mut self, running: &Running, step: u64) {
        let progress = Progress { epoch: 0, epochs: 1, step, steps: 10, silent_s: 0 };
        self.say(&Reply::Progress { id: running.id, progress }).await;
    }

    pub(crate) async fn log(&mut self, running: &Running, line: &str) {
        self.say(&Reply::Log { id: running.id, line: line.to_owned() }).await;
    }

    pub(crate) async fn metrics(&mut self, running: &Running, step: u64) {
        let values = BTreeMap::from([("loss".to_owned(), 0.5)]);
        self.say(&Reply::Metrics { id: running.id, step, values }).await;
    }

    pub(crate) async fn fail(&mut self, running: &Running, class: FailureClass, reason: &str) {
        let failure = Failure { class, reason: reason.to_owned() };
        self.say(&Reply::Failed { id: running.id, failure, cause: None }).await;
    }

    /// Completes a job as a trainer does: the folder first, then the reply.
    pub(crate) async fn complete(&mut self, running: &Running) {
        let outcome = Box::new(running.finish());
        self.say(&Reply::Completed { id: running.id, outcome }).await;
    }

    /// Takes the next job and completes it.
    pub(crate) async fn do_job(&mut self) -> Running {
        let running = self.hear_job().await;
        self.complete(&running).await;
        running
    }
}

impl Running {
    pub(crate) fn spec(&self) -> JobSpec {
        self.job.spec(Catalogue::built_in().get(&self.job.dataset).unwrap(), None).unwrap()
    }

    /// Makes the output folder, with the numbers by class; a training job's has a checkpoint too.
    pub(crate) fn finish(&self) -> Outcome {
        let spec = self.spec();
        let mut files = BTreeMap::new();
        let mut write = |name: String, bytes: &[u8]| {
            let path = self.job.output.join(&name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, bytes).unwrap();
            files.insert(name, FileEntry { sha256: hex(&Sha256::digest(bytes)), bytes: bytes.len() as u64 });
        };
        write(EVALUATION_FILE.to_owned(), evaluation().to_text().as_bytes());
        if spec.learns() && self.job.checkpoint.is_none() {
            write(layout::checkpoint(spec.method, Methods::built_in()).unwrap(), &self.checkpoint());
        }
        let result = TestResult {
            total: 100,
            correct: 75,
            accuracy: 75.0,
            error: 25.0,
            macro_f1: 70.0,
            calibration_error: None,
        };
        let manifest = Manifest {
            format: Manifest::FORMAT,
            spec_hash: spec.hash(),
            spec,
            weights_sha256: "0".repeat(64),
            architecture: Architecture::OPENAI,
            assumed: Vec::new(),
            split_sha256: "1".repeat(64),
            test_sha256: Some("2".repeat(64)),
            checkpoint_sha256: None,
            left_out: Vec::new(),
            code_version: VERSION.to_owned(),
            device: self.job.device.clone(),
            threads: 1,
            result: Some(result),
            started_at: Timestamp(0),
            seconds: Seconds::default(),
            files,
        };
        write_manifest(&self.job.output, &manifest);
        Outcome { result: Some(result), adopted: false, manifest: Some(manifest) }
    }

    /// What stands in this training job's checkpoint.
    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        format!("weights of seed {}", self.job.seed).into_bytes()
    }
}

/// What a puppet's evaluation counted.
pub(crate) fn evaluation() -> Evaluation {
    let class = |name: &str, [images, predicted, correct]: [u64; 3], confused| ClassCounts {
        name: name.to_owned(),
        images,
        predicted,
        correct,
        confused: vec![confused],
    };
    let classes = vec![class("llama", [60, 55, 45], (1, 15)), class("cat", [40, 45, 30], (0, 10))];
    Evaluation { format: Evaluation::FORMAT, classes }
}

fn write_manifest(folder: &Path, manifest: &Manifest) {
    fs_err::write(folder.join(MANIFEST_FILE), serde_json::to_vec(manifest).unwrap()).unwrap();
}
