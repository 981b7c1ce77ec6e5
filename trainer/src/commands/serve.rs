//! The resident trainer: jobs in and replies out as JSON lines (`promptfield_core::wire::trainer_wire`).
//!
//! One thread reads requests, so that a cancellation reaches a job that is running; jobs run one after the other on the
//! caller's thread. When the input ends the worker is gone: the running job stops at its next step and nothing new starts.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use promptfield_core::chain::chain;
use promptfield_core::input;
use promptfield_core::job::outcome::{Failure, FailureClass, Outcome, Progress};
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_core::wire::trainer_wire::{BackboneFile, Backbones, Reply, Request};

use super::machine::Machine;
use crate::clip::Backbone;
use crate::engine::{self, CancelFlag, JobError, Reporter};
use crate::methods;
use crate::talk::talk;
use crate::working;

/// At most this often a job's progress is sent.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// At most this often a step's metrics are sent.
const METRICS_EVERY: Duration = Duration::from_millis(100);

/// Serves the worker that started this process. Replies go to what was stdout; from here on stdout is stderr, so that no library's line can get between them.
pub fn run(backbones: &str, machine: &Machine) -> anyhow::Result<()> {
    let backbones: Backbones = input::from_json(backbones)?;
    let replies = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    working::speak_to(replies.try_clone()?);
    let mut session = machine.session()?;
    serve(BufReader::new(io::stdin()), replies, ready(&backbones), |job, reporter, cancel| {
        engine::run(job, &mut session, reporter, cancel)
    })
    .context("the worker can't be talked to")
}

/// What is said first: which devices there are, and which backbones.
fn ready(backbones: &Backbones) -> Reply {
    let (mut backbone_sha256, mut unusable) = (BTreeMap::new(), BTreeMap::new());
    for (name, BackboneFile { weights, architecture }) in backbones {
        match Backbone::identify(weights, architecture) {
            Ok(backbone) => backbone_sha256.extend(backbone.basis().map(|sha256| (name.clone(), sha256))),
            Err(error) => {
                unusable.insert(name.clone(), chain(&error));
            }
        }
    }
    let version = promptfield_core::VERSION.to_owned();
    Reply::Ready { version, devices: engine::devices(), methods: methods::implemented(), backbone_sha256, unusable }
}

/// Takes requests from `input` until it ends, and runs each job with `run`. `ready` is said first.
fn serve(
    input: impl BufRead + Send,
    output: impl Write + Send,
    ready: Reply,
    mut run: impl FnMut(&TrainerJob, &mut dyn Reporter, &CancelFlag) -> Result<Outcome, JobError>,
) -> io::Result<()> {
    let output = Lines(Mutex::new(output));
    output.send(&ready)?;
    let flags = Flags::default();
    let (jobs, waiting) = channel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_requests(input, &output, &flags, jobs));
        for (id, job) in waiting {
            let cancel = flags.of(id);
            working::begin(id);
            let mut reporter = WireReporter::new(id, &output, &cancel);
            let ended =
                if cancel.is_cancelled() { Err(JobError::Cancelled) } else { run(&job, &mut reporter, &cancel) };
            reporter.flush();
            output.send(&match ended {
                Ok(outcome) => Reply::Completed { id, outcome: Box::new(outcome) },
                Err(JobError::Cancelled) => Reply::Cancelled { id },
                Err(error) => Reply::Failed { id, failure: error.failure(), cause: error.cause() },
            })?;
            flags.forget(id);
        }
        reader.join().map_err(|_| io::Error::other("the thread that reads requests died"))?
    })
}

/// Reads requests until the input ends; then every job is cancelled.
fn read_requests(
    input: impl BufRead,
    output: &Lines<impl Write>,
    flags: &Flags,
    jobs: Sender<(u64, Box<TrainerJob>)>,
) -> io::Result<()> {
    let read = (|| {
        for line in input.lines() {
            let line = line?;
            match serde_json::from_str(&line) {
                Ok(Request::Run { id, job }) => {
                    flags.add(id);
                    // The receiver only goes when the output is broken; then the worker is gone too.
                    if jobs.send((id, job)).is_err() {
                        break;
                    }
                }
                Ok(Request::Cancel { id }) => flags.cancel(id),
                Err(_) if line.trim().is_empty() => {}
                Err(error) => refuse(&line, &error, output)?,
            }
        }
        Ok(())
    })();
    flags.cancel_all();
    read
}

/// Answers a line that is no request.
fn refuse(line: &str, error: &serde_json::Error, output: &Lines<impl Write>) -> io::Result<()> {
    let reason = format!("not a request: {error}");
    talk(format_args!("{reason}: {line}"));
    let id = serde_json::from_str::<serde_json::Value>(line).ok().and_then(|value| value["id"].as_u64());
    match id {
        Some(id) => {
            let failure = Failure { class: FailureClass::Bug, reason };
            output.send(&Reply::Failed { id, failure, cause: None })
        }
        None => Ok(()),
    }
}

/// The output, shared by both threads, one reply a line.
struct Lines<W>(Mutex<W>);

impl<W: Write> Lines<W> {
    fn send(&self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _line = working::line();
        output.write_all(&line)?;
        output.flush()
    }
}

/// The flags of the jobs that wait or run.
#[derive(Default)]
struct Flags(Mutex<HashMap<u64, CancelFlag>>);

impl Flags {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, CancelFlag>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, id: u64) {
        self.with(|flags| flags.insert(id, CancelFlag::default()));
    }

    fn of(&self, id: u64) -> CancelFlag {
        self.with(|flags| flags.entry(id).or_default().clone())
    }

    fn cancel(&self, id: u64) {
        self.with(|flags| {
            if let Some(flag) = flags.get(&id) {
                flag.cancel();
            }
        });
    }

    fn cancel_all(&self) {
        self.with(|flags| flags.values().for_each(CancelFlag::cancel));
    }

    fn forget(&self, id: u64) {
        self.with(|flags| flags.remove(&id));
    }
}

/// Sends what a job reports, thinned out. A reply that can't be sent cancels the job: nobody is left to hear of it.
struct WireReporter<'a, W> {
    id: u64,
    output: &'a Lines<W>,
    cancel: &'a CancelFlag,
    progress: Thinned<Progress>,
    metrics: Thinned<(u64, BTreeMap<String, f64>)>,
    epoch: u32,
}

impl<'a, W: Write> WireReporter<'a, W> {
    fn new(id: u64, output: &'a Lines<W>, cancel: &'a CancelFlag) -> Self {
        Self {
            id,
            output,
            cancel,
            progress: Thinned::new(PROGRESS_EVERY),
            metrics: Thinned::new(METRICS_EVERY),
            epoch: 0,
        }
    }

    fn send(&self, reply: &Reply) {
        if self.output.send(reply).is_err() {
            self.cancel.cancel();
        }
    }

    fn send_metrics(&self, latest: Option<(u64, BTreeMap<String, f64>)>) {
        if let Some((step, values)) = latest {
            self.send(&Reply::Metrics { id: self.id, step, values });
        }
    }

    fn send_progress(&self, latest: Option<Progress>) {
        if let Some(progress) = latest {
            self.send(&Reply::Progress { id: self.id, progress });
        }
    }

    /// Sends what was held back.
    fn flush(&mut self) {
        let (metrics, progress) = (self.metrics.take(), self.progress.take());
        self.send_metrics(metrics);
        self.send_progress(progress);
    }
}

impl<W: Write> Reporter for WireReporter<'_, W> {
    fn log(&mut self, line: &str) {
        self.send(&Reply::Log { id: self.id, line: line.to_owned() });
    }

    fn progress(&mut self, progress: Progress) {
        let due = self.progress.put(progress, Instant::now());
        self.send_progress(due);
        if self.epoch != progress.epoch {
            self.epoch = progress.epoch;
            self.flush();
        }
    }

    fn metrics(&mut self, step: u64, values: &BTreeMap<String, f64>) {
        let due = self.metrics.put((step, values.clone()), Instant::now());
        self.send_metrics(due);
    }
}

/// Lets a value through at most once an interval, and holds the latest one back until then.
struct Thinned<T> {
    every: Duration,
    last: Option<Instant>,
    held: Option<T>,
}

impl<T> Thinned<T> {
    const fn new(every: Duration) -> Self {
        Self { every, last: None, held: None }
    }

    /// Takes a value in; out comes the one to send now.
    fn put(&mut self, value: T, now: Instant) -> Option<T> {
        if self.last.is_some_and(|last| now.duration_since(last) < self.every) {
            self.held = Some(value);
            return None;
        }
        self.held = None;
        self.last = Some(now);
        Some(value)
    }

    /// The value that was held back, if one was.
    const fn take(&mut self) -> Option<T> {
        self.held.take()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, PipeReader, PipeWriter, pipe};

    fn ready() -> Reply {
        let (version, devices) = (promptfield_core::VERSION.to_owned(), vec!["cpu".to_owned()]);
        Reply::Ready {
            version,
            devices,
            methods: methods::implemented(),
            backbone_sha256: BTreeMap::new(),
            unusable: BTreeMap::new(),
        }
    }

    use promptfield_core::job::outcome::TestResult;

    use super::*;

    const JOB: &str = r#"{"method": "zero_shot", "protocol": "base_to_new", "stage": "train", "dataset": "icons", "shots": 0,
        "seed": 0, "config": "mini", "weights": "w", "data_root": "d", "output": "o", "device": "cpu"}"#;

    /// A job that reports one line and then, named `waits`, ends only when it's cancelled.
    fn scripted(job: &TrainerJob, reporter: &mut dyn Reporter, cancel: &CancelFlag) -> Result<Outcome, JobError> {
        reporter.log("begun");
        reporter.progress(Progress::default());
        if job.dataset == "waits" {
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            return Err(JobError::Cancelled);
        }
        let result =
            TestResult { total: 1, correct: 1, accuracy: 100.0, error: 0.0, macro_f1: 100.0, calibration_error: None };
        Ok(Outcome { result: Some(result), adopted: false, manifest: None })
    }

    /// The worker's ends of a trainer that runs scripted jobs.
    struct Worker {
        requests: Option<PipeWriter>,
        replies: std::io::Lines<BufReader<PipeReader>>,
    }

    impl Worker {
        fn send(&mut self, line: &str) {
            writeln!(self.requests.as_ref().unwrap(), "{line}").unwrap();
        }

        fn run(&mut self, id: u64, dataset: &str) {
            let job = JOB.replace('\n', " ").replace("icons", dataset);
            self.send(&format!(r#"{{"type": "run", "id": {id}, "job": {job}}}"#));
        }

        fn hear(&mut self) -> Reply {
            serde_json::from_str(&self.replies.next().unwrap().unwrap()).unwrap()
        }

        /// The next reply that isn't a log line or progress.
        fn hear_end(&mut self) -> Reply {
            loop {
                match self.hear() {
                    Reply::Log { .. } | Reply::Progress { .. } => {}
                    reply => return reply,
                }
            }
        }
    }

    fn with_trainer(talk: impl FnOnce(&mut Worker)) {
        let (requests_in, requests) = pipe().unwrap();
        let (replies, replies_out) = pipe().unwrap();
        std::thread::scope(|scope| {
            let serving = scope.spawn(move || {
                serve(BufReader::new(requests_in), replies_out, ready(), scripted).unwrap();
            });
            let mut worker = Worker { requests: Some(requests), replies: BufReader::new(replies).lines() };
            assert!(matches!(worker.hear(), Reply::Ready { devices, .. } if devices == ["cpu"]));
            talk(&mut worker);
            worker.requests = None;
            for reply in worker.replies.by_ref() {
                reply.unwrap();
            }
            serving.join().unwrap();
        });
    }

    #[test]
    fn jobs_run_one_after_the_other() {
        with_trainer(|worker| {
            worker.run(1, "icons");
            worker.run(2, "icons");
            for id in [1, 2] {
                assert_eq!(worker.hear(), Reply::Log { id, line: "begun".to_owned() });
                assert!(matches!(worker.hear_end(), Reply::Completed { id: ended, .. } if ended == id));
            }
        });
    }

    #[test]
    fn running_and_waiting_jobs_can_be_cancelled() {
        with_trainer(|worker| {
            worker.run(1, "waits");
            worker.run(2, "waits");
            worker.run(3, "icons");
            assert!(matches!(worker.hear(), Reply::Log { id: 1, .. }));
            worker.send(r#"{"type": "cancel", "id": 9}"#);
            worker.send(r#"{"type": "cancel", "id": 2}"#);
            worker.send(r#"{"type": "cancel", "id": 1}"#);
            assert_eq!(worker.hear_end(), Reply::Cancelled { id: 1 });
            assert_eq!(worker.hear(), Reply::Cancelled { id: 2 });
            assert!(matches!(worker.hear_end(), Reply::Completed { id: 3, .. }));
        });
    }

    #[test]
    fn the_end_of_the_input_stops_the_running_job() {
        with_trainer(|worker| {
            worker.run(1, "waits");
            worker.run(2, "waits");
            assert!(matches!(worker.hear(), Reply::Log { id: 1, .. }));
            worker.requests = None;
            assert_eq!(worker.hear_end(), Reply::Cancelled { id: 1 });
            assert_eq!(worker.hear_end(), Reply::Cancelled { id: 2 });
        });
    }

    #[test]
    fn a_line_that_is_no_request_is_refused_and_the_next_one_runs() {
        with_trainer(|worker| {
            worker.send("nonsense");
            worker.send(r#"{"type": "run", "id": 7, "job": {"method": "No!"}}"#);
            let Reply::Failed { id: 7, failure, .. } = worker.hear() else { panic!("not refused") };
            assert_eq!(failure.class, FailureClass::Bug);
            assert!(failure.reason.contains("lower-case letters"), "{}", failure.reason);
            worker.run(8, "icons");
            assert!(matches!(worker.hear_end(), Reply::Completed { id: 8, .. }));
        });
    }

    #[test]
    fn values_are_thinned_and_the_latest_is_kept() {
        let mut thinned = Thinned::new(Duration::from_millis(100));
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let sent: Vec<_> = [0, 40, 99, 100, 150].into_iter().filter_map(|time| thinned.put(time, at(time))).collect();
        assert_eq!(sent, [0, 100]);
        assert_eq!((thinned.take(), thinned.take()), (Some(150), None));
    }
}
