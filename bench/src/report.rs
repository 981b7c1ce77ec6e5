//! Everything that one run measured, as `coordinator.json` holds it.

use promptfield_core::protocol::Protocol;
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, Measured};
use crate::machine::Machine;
use crate::peers::PeerRuns;
use crate::stats::Spread;
use crate::waiting::Waiting;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) cells: Vec<CellRuns>,
    /// Workers of one slot that each take one job at a time.
    pub(crate) single: Option<CellRuns>,
    pub(crate) waiting: Vec<WaitingRuns>,
    pub(crate) peers: Vec<PeerRuns>,
}

/// A cell with its repetitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CellRuns {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) runs: Vec<Measured>,
}

/// Waiting jobs, with the repetitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WaitingRuns {
    pub(crate) jobs: u64,
    pub(crate) experiments: u64,
    pub(crate) runs: Vec<Waiting>,
}

impl CellRuns {
    /// A number of each repetition.
    pub(crate) fn spread(&self, of: impl Fn(&Measured) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(of)).unwrap_or_default()
    }

    /// Jobs in a second, the submission's time among it.
    pub(crate) fn jobs_per_s(&self) -> Spread {
        self.spread(|run| self.cell.jobs as f64 / run.wall_s)
    }

    /// CPU time of coordinator and workers for each job, in microseconds.
    pub(crate) fn cpu_us_per_job(&self) -> Spread {
        self.spread(|run| run.cpu_us_per_job(self.cell.jobs))
    }
}

impl WaitingRuns {
    /// A number of each repetition.
    pub(crate) fn spread(&self, of: impl Fn(&Waiting) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(of)).unwrap_or_default()
    }
}

/// Something that is to be reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) wanted: &'static str,
    pub(crate) reached: String,
    pub(crate) met: bool,
}

impl Report {
    /// The cell that a peer on two workers is compared with: the fewest slots, and of these the most jobs.
    pub(crate) fn compared(&self) -> Option<&CellRuns> {
        let alone = self.cells.iter().filter(|runs| runs.cell.protocol == Protocol::FewShot);
        alone.max_by_key(|runs| (std::cmp::Reverse(runs.cell.slots), runs.cell.jobs))
    }

    fn cell(&self, jobs: u64, slots: u64) -> Option<&CellRuns> {
        let cell = Cell { protocol: Protocol::FewShot, jobs, slots };
        self.cells.iter().find(|runs| runs.cell == cell)
    }

    fn waiting(&self, jobs: u64) -> Option<&WaitingRuns> {
        self.waiting.iter().find(|runs| runs.jobs == jobs)
    }

    /// The targets of which this run has measured what they speak of. Medians count.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |what, wanted, reached: Option<(String, bool)>| {
            if let Some((reached, met)) = reached {
                targets.push(Target { what, wanted, reached, met });
            }
        };
        add(
            "submitting 100,000 jobs",
            "≤ 2 s",
            self.waiting(100_000).map(|runs| {
                let seconds = runs.spread(|run| run.submit_s).median;
                (format!("{seconds:.2} s"), seconds <= 2.0)
            }),
        );
        for (what, wanted, slots, least) in [
            ("no-op jobs at 256 slots", "≥ 10,000/s", 256, 10_000.0),
            ("no-op jobs at 2 slots", "≥ 2,000/s", 2, 2_000.0),
        ] {
            add(
                what,
                wanted,
                self.cell(100_000, slots).map(|runs| {
                    let per_second = runs.jobs_per_s().median;
                    (format!("{per_second:.0}/s"), per_second >= least)
                }),
            );
        }
        let sizes: Vec<f64> = [1_000, 10_000, 100_000]
            .iter()
            .filter_map(|&jobs| Some(self.cell(jobs, 256)?.cpu_us_per_job().median))
            .collect();
        add(
            "CPU time a job at 256 slots, with 1,000, 10,000 and 100,000 jobs",
            "≤ 60 µs",
            (sizes.len() == 3).then(|| {
                let text: Vec<String> = sizes.iter().map(|us| format!("{us:.0}")).collect();
                (format!("{} µs", text.join(", ")), sizes.iter().all(|us| *us <= 60.0))
            }),
        );
        add(
            "lease p99 with 64 workers",
            "≤ 20 ms",
            self.single.as_ref().filter(|runs| runs.cell.slots == 64).map(|runs| {
                let ms = runs.spread(|run| f64::from(run.requests.lease_p99_us) / 1e3).median;
                (format!("{ms:.1} ms"), ms <= 20.0)
            }),
        );
        add(
            "memory of a waiting job, of 100,000",
            "≤ 300 B",
            self.waiting(100_000).map(|runs| {
                let bytes = runs.spread(|run| run.resident_per_job).median;
                (format!("{bytes:.0} B"), bytes <= 300.0)
            }),
        );
        add(
            "loading 1,000,000 jobs",
            "≤ 5 s",
            self.waiting(1_000_000).map(|runs| {
                let seconds = runs.spread(|run| run.restart_s).median;
                (format!("{seconds:.2} s"), seconds <= 5.0)
            }),
        );
        targets
    }
}
