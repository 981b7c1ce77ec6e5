//! What is measured, for Prometheus.
//!
//! There is no global registry: every coordinator has its own, so that several in one process don't count each other's
//! requests. What the scheduler knows anyway (jobs and workers by state) is not counted along but looked up when somebody
//! asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use promptfield_core::id::Sequence;
use promptfield_core::scheduler::{Change, Counts, JobRecord, JobStateName, Scheduler, WorkerState};

use crate::store::Writes;

/// From half a millisecond to a minute.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Requests of one commit: powers of 4.
const REQUESTS: [f64; 6] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Worker {
    worker: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: String,
    route: String,
    status: u16,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All that is measured. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    jobs: Family<State, Gauge>,
    workers: Family<State, Gauge>,
    worker_jobs: Family<Worker, Counter>,
    leases: Histogram,
    commit_requests: Histogram,
    commits: Histogram,
    event_lag: Gauge,
    streams: Family<Kind, Gauge>,
    waiting: Gauge,
    cut_off: Counter,
    turned_away: Counter,
    removed: Family<Kind, Counter>,
    tidied: Counter,
    answers: Family<Answer, Counter>,
    requests: Histograms<Route>,
    followers: Arc<Mutex<Vec<Weak<AtomicU64>>>>,
}

/// An open stream; it's counted until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    gauge: Gauge,
    /// The last event that was sent.
    position: Arc<AtomicU64>,
}

impl OpenStream {
    /// Notes how far a follower of the event log is.
    pub(crate) fn reached(&self, sequence: Sequence) {
        self.position.store(sequence.0, Ordering::Relaxed);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut all = Self {
            registry: Arc::default(),
            jobs: Family::default(),
            workers: Family::default(),
            worker_jobs: Family::default(),
            leases: seconds(),
            commit_requests: Histogram::new(REQUESTS),
            commits: seconds(),
            event_lag: Gauge::default(),
            streams: Family::default(),
            waiting: Gauge::default(),
            cut_off: Counter::default(),
            turned_away: Counter::default(),
            removed: Family::default(),
            tidied: Counter::default(),
            answers: Family::default(),
            requests: Family::new_with_constructor(seconds),
            followers: Arc::default(),
        };
        all.registry = Arc::new(all.register());
        all
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("promptfield");
        registry.register("jobs", "Jobs by state", self.jobs.clone());
        registry.register("workers", "Workers that ever registered, by state", self.workers.clone());
        registry.register(
            "worker_completed_jobs",
            "Results that a worker brought since the coordinator was started, by its name",
            self.worker_jobs.clone(),
        );
        registry.register_with_unit(
            "lease",
            "From a worker's request for jobs to the answer, without the time in which there were none",
            Unit::Seconds,
            self.leases.clone(),
        );
        registry.register("commit_requests", "Requests that one commit carried out", self.commit_requests.clone());
        registry.register_with_unit("commit", "Time of a commit", Unit::Seconds, self.commits.clone());
        registry.register(
            "event_lag_events",
            "Events that the slowest follower hasn't been sent yet",
            self.event_lag.clone(),
        );
        registry.register("open_streams", "Streams that are open, by kind", self.streams.clone());
        registry.register("waiting_workers", "Workers that wait for jobs", self.waiting.clone());
        registry.register(
            "cut_off_connections",
            "Connections that were ended because the client took nothing for too long",
            self.cut_off.clone(),
        );
        registry.register(
            "turned_away_connections",
            "Connections above the most at once: for each, one that was of no use yet was ended, or it was itself",
            self.turned_away.clone(),
        );
        registry.register(
            "removed_rows",
            "Rows of the database that were removed because of their age or their number, by kind",
            self.removed.clone(),
        );
        registry.register("retention_runs", "How often everything old was looked for and removed", self.tidied.clone());
        registry.register("http_requests", "Requests by route and status", self.answers.clone());
        registry.register_with_unit(
            "http_request",
            "From a request to the head of its answer, by route",
            Unit::Seconds,
            self.requests.clone(),
        );
        registry
    }

    /// A request was answered.
    pub(crate) fn answered(&self, method: String, route: String, status: u16, took: Duration) {
        self.requests
            .get_or_create(&Route { method: method.clone(), route: route.clone() })
            .observe(took.as_secs_f64());
        self.answers.get_or_create(&Answer { method, route, status }).inc();
    }

    /// A batch of requests was committed; `scheduler` is the state after it.
    pub(crate) fn committed(&self, requests: usize, writes: &Writes, scheduler: &Scheduler, took: Duration) {
        self.commit_requests.observe(requests as f64);
        self.commits.observe(took.as_secs_f64());
        for change in &writes.changes {
            if let Change::ResultRecorded { job, .. } = change
                && let Some(attempt) = scheduler.job(*job).and_then(JobRecord::latest)
                && let Some(worker) = scheduler.worker(attempt.worker)
            {
                self.worker_jobs.get_or_create(&Worker { worker: worker.description.name.clone() }).inc();
            }
        }
    }

    /// A worker got its answer, with jobs or without.
    pub(crate) fn leased(&self, took: Duration) {
        self.leases.observe(took.as_secs_f64());
    }

    /// So many workers wait for jobs.
    pub(crate) fn waiting(&self, workers: usize) {
        self.waiting.set(as_gauge(workers));
    }

    /// Counts connections that are cut off.
    pub(crate) fn cut_off(&self) -> Counter {
        self.cut_off.clone()
    }

    /// Counts connections for which there was no room.
    pub(crate) fn turned_away(&self) -> Counter {
        self.turned_away.clone()
    }

    /// So many rows of a kind were removed.
    pub(crate) fn removed(&self, kind: &'static str, rows: u64) {
        self.removed.get_or_create(&Kind { kind }).inc_by(rows);
    }

    /// All that is old is gone.
    pub(crate) fn tidied(&self) {
        self.tidied.inc();
    }

    /// Counts a follower of the events from now on, who has been sent those up to `position`.
    pub(crate) fn follows_events(&self, position: Sequence) -> OpenStream {
        let open = self.opened("events", position);
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&open.position));
        open
    }

    /// Counts a follower of a log from now on.
    pub(crate) fn follows_log(&self) -> OpenStream {
        self.opened("log", Sequence(0))
    }

    fn opened(&self, kind: &'static str, position: Sequence) -> OpenStream {
        let gauge = self.streams.get_or_create_owned(&Kind { kind });
        gauge.inc();
        let position = Arc::new(AtomicU64::new(position.0));
        OpenStream { gauge, position }
    }

    /// Everything as text. Without a `snapshot`, jobs and workers are those of the last one.
    pub(crate) fn text(&self, snapshot: Option<Snapshot>, last: Sequence) -> Result<String, std::fmt::Error> {
        if let Some(Snapshot { mut jobs, workers }) = snapshot {
            for &state in JobStateName::ALL {
                self.jobs.get_or_create(&State { state: state.as_str() }).set(as_gauge(*jobs.of(state)));
            }
            for (&state, count) in WorkerState::ALL.iter().zip(workers) {
                self.workers.get_or_create(&State { state: state.as_str() }).set(as_gauge(count));
            }
        }
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = followers.iter().filter_map(Weak::upgrade).map(|position| position.load(Ordering::Relaxed));
        self.event_lag.set(positions.min().map_or(0, |slowest| last.0.saturating_sub(slowest).cast_signed()));
        drop(followers);
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What the scheduler knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    jobs: Counts,
    /// In the order of [`WorkerState::ALL`].
    workers: [usize; WorkerState::ALL.len()],
}

impl Snapshot {
    pub(crate) fn of(scheduler: &Scheduler) -> Self {
        let mut snapshot = Self { jobs: scheduler.counts(), workers: Default::default() };
        for (worker, ..) in scheduler.workers() {
            if let Some(place) = WorkerState::ALL.iter().position(|state| *state == worker.state) {
                snapshot.workers[place] += 1;
            }
        }
        snapshot
    }
}
