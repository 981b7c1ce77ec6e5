//! What workers said of their devices, for a day. It is kept in memory: nobody decides anything by it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use promptfield_core::id::WorkerId;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::usage::{DeviceLoad, Intervals, Usage};

const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// Of one worker. Workers report twice a minute.
const MOST_REPORTS: usize = 2880;

type Reports = VecDeque<(Timestamp, Vec<DeviceLoad>)>;

/// What is known of all workers' devices. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(Arc<Mutex<HashMap<WorkerId, Reports>>>);

impl Loads {
    /// Takes what a worker said.
    pub(crate) fn take(&self, worker: WorkerId, at: Timestamp, devices: Vec<DeviceLoad>) {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loads.entry(worker).or_default().push_back((at, devices));
        loads.retain(|_, reports| {
            while reports.len() > MOST_REPORTS || reports.front().is_some_and(|(then, _)| at.since(*then) > KEPT_MS) {
                reports.pop_front();
            }
            !reports.is_empty()
        });
    }

    /// All of it beside the times in which workers had jobs.
    pub(crate) fn usage(&self, intervals: Intervals, held: Vec<(WorkerId, Timestamp, Timestamp)>) -> Usage {
        let loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reported = loads.iter().flat_map(|(worker, reports)| {
            reports.iter().flat_map(|(at, devices)| devices.iter().map(|load| (*worker, *at, load)))
        });
        Usage::new(intervals, held, reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_day_or_too_much_is_forgotten() {
        let loads = Loads::default();
        let take = |worker, at| loads.take(WorkerId(worker), Timestamp(at), Vec::new());
        let kept = |worker| loads.0.lock().unwrap().get(&WorkerId(worker)).map_or(0, VecDeque::len);
        take(1, 0);
        for at in 0..3000 {
            take(2, at);
        }
        assert_eq!((kept(1), kept(2)), (1, MOST_REPORTS));
        take(3, KEPT_MS + 3000);
        assert_eq!((kept(1), kept(2), kept(3)), (0, 0, 1));
    }
}
