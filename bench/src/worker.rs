//! A worker that ends every job at once.
//!
//! It speaks the real API: it registers, takes jobs by long poll, and reports their results. Leasing and reporting overlap:
//! while a report is on its way, the next jobs come in, and all that have ended meanwhile go into the next report. What has
//! ended and isn't on its way is never more than one lease request brings.
//!
//! On stdout it says a [`Word`] a line: that it's registered, how many jobs have ended whenever it holds none, and, when
//! stdin ends, how long its requests took. It ends then, with whatever it holds.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use promptfield_client::{Client, ClientOptions, Connection};
use promptfield_core::id::WorkerId;
use promptfield_core::job::outcome::{Outcome, TestResult};
use promptfield_core::scheduler::WorkerDescription;
use promptfield_core::wire::api::{
    CompletionReport, LeaseGrant, LeaseReport, LeaseResponse, MOST_REPORTS, Report, ReportAnswer, ReportAnswers,
    Reports,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::WorkerArgs;

/// The backbone of every job here.
pub(crate) const BACKBONE: &str = "ViT-B/16";

/// How long a lease request waits for jobs.
const WAIT: Duration = Duration::from_secs(20);

/// What a worker process says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// Jobs will be taken.
    Registered,
    /// So many jobs were reported and acknowledged in all, and none is held.
    Ended(u64),
    /// How long requests took.
    Took(Took),
}

/// Round trips in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Took {
    /// Lease requests that brought jobs, without each worker's first, which waits for the submission.
    pub(crate) lease_us: Vec<u32>,
    /// Reports, of one job or of many.
    pub(crate) complete_us: Vec<u32>,
}

/// What the workers of this process have in common.
#[derive(Debug, Default)]
struct Tally {
    granted: AtomicU64,
    ended: AtomicU64,
}

/// Runs the process's workers until stdin ends.
pub(crate) async fn run(args: &WorkerArgs) -> Result<()> {
    let tally = Arc::new(Tally::default());
    let (took, mut taken) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    let most = usize::try_from(args.slots.get() + args.prefetch).context("there are too many slots")?;
    for index in 0..args.workers.get() {
        let client = Client::new(&args.coordinator, &Connection::default(), ClientOptions::default())?;
        let worker = register(&client, format!("{}-{index}", args.name), args.slots.get() as usize).await?;
        let (grants, ended) = mpsc::channel(most);
        workers.spawn(lease(client.clone(), worker, most, grants, Arc::clone(&tally), took.clone()));
        workers.spawn(report(client, ended, Arc::clone(&tally), took.clone()));
    }
    say(&Word::Registered)?;
    let (mut stdin, mut nothing) = (tokio::io::stdin(), [0]);
    tokio::select! {
        read = stdin.read(&mut nothing) => drop(read.context("can't read stdin")?),
        Some(end) = workers.join_next() => end.context("a worker's task ended")??,
    }
    workers.shutdown().await;
    drop(took);
    let mut all = Took::default();
    while let Some(one) = taken.recv().await {
        match one {
            Trip::Lease(us) => all.lease_us.push(us),
            Trip::Complete(us) => all.complete_us.push(us),
        }
    }
    say(&Word::Took(all))
}

/// How long a request took, in microseconds.
enum Trip {
    Lease(u32),
    Complete(u32),
}

async fn register(client: &Client, name: String, slots: usize) -> Result<WorkerId> {
    let description = WorkerDescription {
        name,
        host: "bench".to_owned(),
        output_root: String::new(),
        places: String::new(),
        slots,
        devices: vec!["cpu".to_owned()],
        backbones: vec![BACKBONE.to_owned()],
        backbone_sha256: std::collections::BTreeMap::new(),
        methods: std::collections::BTreeMap::new(),
        version: promptfield_core::VERSION.to_owned(),
        labels: Vec::new(),
        memory_mib: None,
        pilot: None,
        time_left_ms: None,
    };
    Ok(client.register(&description).await?.worker)
}

/// Takes jobs for as long as there is room for them.
async fn lease(
    client: Client,
    worker: WorkerId,
    most: usize,
    grants: mpsc::Sender<LeaseGrant>,
    tally: Arc<Tally>,
    took: mpsc::UnboundedSender<Trip>,
) -> Result<()> {
    let mut first = true;
    loop {
        // Every job ends at once, so that all slots are free when the last ones have gone to be reported.
        let room = grants.reserve_many(most).await.context("nobody reports any more")?;
        let asked = Instant::now();
        let LeaseResponse { leases, .. } = client.lease(worker, most, WAIT).await?;
        if leases.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            // Nobody counts any more once stdin has ended.
            let _ = took.send(Trip::Lease(microseconds(asked)));
        }
        tally.granted.fetch_add(leases.len() as u64, Ordering::Relaxed);
        for (room, grant) in room.zip(leases) {
            room.send(grant);
        }
    }
}

/// Reports everything that has ended, and again.
async fn report(
    client: Client,
    mut ended: mpsc::Receiver<LeaseGrant>,
    tally: Arc<Tally>,
    took: mpsc::UnboundedSender<Trip>,
) -> Result<()> {
    let mut grants = Vec::new();
    while ended.recv_many(&mut grants, MOST_REPORTS).await > 0 {
        let reports = Reports { reports: grants.drain(..).map(completion).collect() };
        let asked = Instant::now();
        let ReportAnswers { answers } = client.report(&reports).await?;
        // As above.
        let _ = took.send(Trip::Complete(microseconds(asked)));
        if let Some(other) = answers.iter().find(|answer| !matches!(answer, ReportAnswer::Done)) {
            bail!("a completion was answered with {other:?}");
        }
        let total = tally.ended.fetch_add(answers.len() as u64, Ordering::Relaxed) + answers.len() as u64;
        if total == tally.granted.load(Ordering::Relaxed) {
            say(&Word::Ended(total))?;
        }
    }
    Ok(())
}

/// A result such as a real job brings, without the manifest and the numbers by class, which are its own and not the
/// coordinator's.
fn completion(grant: LeaseGrant) -> LeaseReport {
    let result = TestResult {
        total: 1000,
        correct: 500,
        accuracy: 50.0,
        error: 50.0,
        macro_f1: 50.0,
        calibration_error: Some(1.0),
    };
    let outcome = Outcome { result: Some(result), adopted: false, manifest: None };
    let report = CompletionReport { token: grant.token, outcome, evaluation: None, memory_mib: None };
    LeaseReport { lease: grant.lease, report: Report::Complete(Box::new(report)) }
}

fn microseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn say(word: &Word) -> Result<()> {
    let mut line = serde_json::to_vec(word).context("can't put a word into JSON")?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line).context("can't write to stdout")
}
