//! What workers and their devices were at over time, for whoever looks for idle ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::WorkerId;
use crate::time::Timestamp;

/// What a device is at, as its worker sees it: a GPU, or the machine's processors and memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceLoad {
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// How busy it was since the last report, in per cent; `null` where that can't be told.
    #[serde(default)]
    pub busy_percent: Option<f64>,
    /// How much of its memory is in use, whoever uses it, in MiB.
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// How much memory it has, in MiB.
    #[serde(default)]
    pub memory_total_mib: Option<u64>,
}

/// What a worker's devices are at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadReport {
    /// At most [`MOST_DEVICES`], each once.
    pub devices: Vec<DeviceLoad>,
}

/// The most devices in a report.
pub const MOST_DEVICES: usize = 64;

/// How workers used their slots and their devices over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    /// When the first interval begins.
    pub since: Timestamp,
    /// How long an interval is, in milliseconds.
    pub interval_ms: i64,
    /// The workers of which something is known in this time, oldest first.
    pub workers: Vec<WorkerUsage>,
}

/// How a worker used its slots and its devices over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerUsage {
    /// The worker.
    pub worker: WorkerId,
    /// How many of its slots had a job, on average over each interval.
    pub busy: Vec<f64>,
    /// Its devices. What they reported is kept in memory only: a coordinator that has just started knows nothing of before.
    pub devices: Vec<DeviceUsage>,
}

/// What a device was at over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceUsage {
    /// The device.
    pub device: String,
    /// How busy it was on average over each interval, in per cent; `null` where nothing was reported.
    pub busy_percent: Vec<Option<f64>>,
    /// The most memory in use in each interval, in MiB.
    pub memory_mib: Vec<Option<u64>>,
    /// How much it has, in MiB.
    pub memory_total_mib: Option<u64>,
}

/// Equal intervals of time.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    since: Timestamp,
    interval_ms: i64,
    count: usize,
}

impl Intervals {
    /// `count` intervals from `since` to `now`.
    pub fn new(since: Timestamp, now: Timestamp, count: usize) -> Self {
        let count = count.max(1);
        let divided = now.since(since) / i64::try_from(count).unwrap_or(i64::MAX);
        Self { since, interval_ms: divided.max(1), count }
    }

    /// The interval that a time lies in. The last one has what is later: the present, and what division left over.
    fn of(self, at: Timestamp) -> Option<usize> {
        let place = usize::try_from(at.since(self.since).div_euclid(self.interval_ms)).ok()?;
        Some(place.min(self.count - 1))
    }

    /// Each interval's first millisecond, counted from the beginning.
    fn firsts(self) -> impl Iterator<Item = i64> {
        (0..).map(move |index| index * self.interval_ms).take(self.count)
    }
}

impl Usage {
    /// From the times in which workers had jobs (worker, begin, end), and what was reported of their devices.
    pub fn new<'a>(
        intervals: Intervals,
        held: impl IntoIterator<Item = (WorkerId, Timestamp, Timestamp)>,
        reported: impl IntoIterator<Item = (WorkerId, Timestamp, &'a DeviceLoad)>,
    ) -> Self {
        let Intervals { since, interval_ms, count } = intervals;
        let mut workers: BTreeMap<WorkerId, WorkerUsage> = BTreeMap::new();
        let new = |worker| WorkerUsage { worker, busy: vec![0.0; count], devices: Vec::new() };
        for (worker, begin, end) in held {
            let (begin, end) = (begin.since(since).max(0), end.since(since));
            if begin >= end {
                continue;
            }
            let usage = workers.entry(worker).or_insert_with(|| new(worker));
            for (first, share) in intervals.firsts().zip(&mut usage.busy) {
                let common = end.min(first + interval_ms) - begin.max(first);
                *share += common.max(0) as f64 / interval_ms as f64;
            }
        }
        // How many numbers an average is of.
        let mut counts: BTreeMap<(WorkerId, &str, usize), f64> = BTreeMap::new();
        for (worker, at, load) in reported {
            let Some(place) = intervals.of(at) else { continue };
            let usage = workers.entry(worker).or_insert_with(|| new(worker));
            let device = usage.device(&load.device, count);
            device.memory_total_mib = load.memory_total_mib.or(device.memory_total_mib);
            device.memory_mib[place] = device.memory_mib[place].max(load.memory_mib);
            if let Some(busy) = load.busy_percent {
                let before = counts.entry((worker, &load.device, place)).or_default();
                let average = device.busy_percent[place].unwrap_or_default();
                device.busy_percent[place] = Some((average * *before + busy) / (*before + 1.0));
                *before += 1.0;
            }
        }
        Self { since, interval_ms, workers: workers.into_values().collect() }
    }
}

impl WorkerUsage {
    fn device(&mut self, name: &str, intervals: usize) -> &mut DeviceUsage {
        let place = self.devices.iter().position(|device| device.device == name).unwrap_or_else(|| {
            self.devices.push(DeviceUsage {
                device: name.to_owned(),
                busy_percent: vec![None; intervals],
                memory_mib: vec![None; intervals],
                memory_total_mib: None,
            });
            self.devices.len() - 1
        });
        &mut self.devices[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp(1_000 + ms)
    }

    #[test]
    fn busy_slots_are_averaged_over_each_interval() {
        let held = [
            (WorkerId(2), at(-500), at(150)),
            (WorkerId(2), at(50), at(250)),
            (WorkerId(1), at(390), at(900)),
            (WorkerId(3), at(-20), at(0)),
        ];
        let usage = Usage::new(Intervals::new(at(0), at(400), 4), held, []);
        assert_eq!((usage.since, usage.interval_ms), (at(0), 100));
        let busy: Vec<_> = usage.workers.iter().map(|worker| (worker.worker, worker.busy.clone())).collect();
        assert_eq!(busy, [(WorkerId(1), vec![0.0, 0.0, 0.0, 0.1]), (WorkerId(2), vec![1.5, 1.5, 0.5, 0.0])]);
    }

    #[test]
    fn a_device_is_as_busy_as_it_said_on_average_and_its_most_memory_counts() {
        let load = |busy, memory| DeviceLoad {
            device: "cuda:0".into(),
            busy_percent: busy,
            memory_mib: Some(memory),
            memory_total_mib: Some(24_000),
        };
        let [first, second, third, early] =
            [load(Some(20.0), 900), load(Some(60.0), 800), load(None, 700), load(Some(1.0), 1)];
        let reported = [(WorkerId(1), at(0), &first), (WorkerId(1), at(99), &second), (WorkerId(1), at(300), &third)];
        let outside = [(WorkerId(1), at(-1), &early)];
        let usage = Usage::new(Intervals::new(at(0), at(300), 3), [], reported.into_iter().chain(outside));
        let expected = DeviceUsage {
            device: "cuda:0".into(),
            busy_percent: vec![Some(40.0), None, None],
            memory_mib: vec![Some(900), None, Some(700)],
            memory_total_mib: Some(24_000),
        };
        assert_eq!(usage.workers, [WorkerUsage { worker: WorkerId(1), busy: vec![0.0; 3], devices: vec![expected] }]);
    }
}
