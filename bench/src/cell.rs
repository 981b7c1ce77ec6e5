//! One measurement: so many jobs on so many slots, from an empty database to the last result.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use promptfield_core::protocol::Protocol;
use serde::{Deserialize, Serialize};

use crate::coordinator::Coordinator;
use crate::fleet::{Fleet, Plan};
use crate::process::Cpu;
use crate::stats::percentile;
use crate::worker::Took;

/// Jobs that a worker takes beyond its slots, so that few slots don't wait for round trips. As many as `HyperQueue`'s.
pub(crate) const PREFETCH: u64 = 16;
/// The slots of the largest worker; more of them are several processes.
const MOST_SLOTS: u64 = 64;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) protocol: Protocol,
    pub(crate) jobs: u64,
    pub(crate) slots: u64,
}

/// What was measured once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The submission's answer.
    pub(crate) submit_s: f64,
    /// From the submission until all results were on the disk.
    pub(crate) wall_s: f64,
    /// The coordinator's CPU time for the submission.
    pub(crate) submit_cpu: Cpu,
    /// The coordinator's CPU time from the submission's answer on.
    pub(crate) run_cpu: Cpu,
    /// The same by the names of its threads.
    pub(crate) run_threads: BTreeMap<String, Cpu>,
    /// The workers' CPU time.
    pub(crate) workers_cpu: Cpu,
    /// The submitting client's CPU time.
    pub(crate) client_cpu: Cpu,
    /// The coordinator's memory before the submission and at the end, in bytes.
    pub(crate) resident: [u64; 2],
    /// How long requests took.
    pub(crate) requests: Requests,
    /// The bytes of the database at the end.
    pub(crate) database_bytes: u64,
    /// From the start of the killed coordinator until it could write to its database again.
    pub(crate) restart_s: f64,
}

/// The workers' requests; times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requests {
    pub(crate) leases: usize,
    pub(crate) lease_p50_us: u32,
    pub(crate) lease_p99_us: u32,
    pub(crate) reports: usize,
    pub(crate) complete_p50_us: u32,
    pub(crate) complete_p99_us: u32,
}

impl Requests {
    fn of(took: Took) -> Self {
        let Took { mut lease_us, mut complete_us } = took;
        // No second lease request was needed if the first brought everything.
        let mut lease = |percent| percentile(&mut lease_us, percent).unwrap_or_default();
        let (lease_p50_us, lease_p99_us) = (lease(50.0), lease(99.0));
        let mut complete = |percent| percentile(&mut complete_us, percent).unwrap_or_default();
        let (complete_p50_us, complete_p99_us) = (complete(50.0), complete(99.0));
        let (leases, reports) = (lease_us.len(), complete_us.len());
        Self { leases, lease_p50_us, lease_p99_us, reports, complete_p50_us, complete_p99_us }
    }
}

impl Measured {
    /// CPU time of coordinator and workers for each job, in microseconds.
    pub(crate) fn cpu_us_per_job(&self, jobs: u64) -> f64 {
        [self.submit_cpu, self.run_cpu, self.workers_cpu].into_iter().sum::<Cpu>().total_us() as f64 / jobs as f64
    }
}

/// The workers that so many slots are; what is divided with a remainder gets a few slots more.
pub(crate) const fn plan(slots: u64) -> Plan {
    let processes = slots.div_ceil(MOST_SLOTS);
    Plan { processes, workers: 1, slots: slots.div_ceil(processes), prefetch: PREFETCH }
}

/// Measures once, in an empty folder.
pub(crate) async fn measure(program: &Path, folder: &Path, cell: Cell, plan: Plan) -> Result<Measured> {
    let Cell { protocol, jobs, .. } = cell;
    let coordinator = Coordinator::start(program, folder).await?;
    let mut fleet = Fleet::start(&coordinator.url, plan).await?;
    let this = std::process::id();
    let resident_before = coordinator.resident()?;
    let (cpu, workers, client) = (coordinator.cpu()?, fleet.cpu()?, Cpu::of(this)?);
    let started = Instant::now();
    let experiment = coordinator.submit(protocol, jobs, 1).await?;
    let submit_s = started.elapsed().as_secs_f64();
    let (submitted, threads_before) = (coordinator.cpu()?, coordinator.threads()?);
    fleet.until_ended(jobs).await?;
    let completed = coordinator.completed(experiment).await?;
    let wall_s = started.elapsed().as_secs_f64();
    ensure!(completed == jobs, "the workers have ended {jobs} jobs, and the coordinator counts {completed}");
    let (submit_cpu, run_cpu) = (submitted - cpu, coordinator.cpu()? - submitted);
    let run_threads = coordinator.threads()?.into_iter().map(|(name, cpu)| {
        let before = threads_before.get(&name).copied().unwrap_or_default();
        (name, cpu - before)
    });
    let run_threads = run_threads.collect();
    let (workers_cpu, client_cpu) = (fleet.cpu()? - workers, Cpu::of(this)? - client);
    let resident = [resident_before, coordinator.resident()?];
    let requests = Requests::of(fleet.stop().await?);
    let database_bytes = coordinator.database_bytes()?;
    coordinator.kill().await?;
    let again = Coordinator::start(program, folder).await?;
    let restart_s = again.start_s;
    let kept = again.completed(experiment).await?;
    ensure!(kept == jobs, "after the restart, {kept} of {jobs} results were left");
    again.kill().await?;
    Ok(Measured {
        submit_s,
        wall_s,
        submit_cpu,
        run_cpu,
        run_threads,
        workers_cpu,
        client_cpu,
        resident,
        requests,
        database_bytes,
        restart_s,
    })
}
