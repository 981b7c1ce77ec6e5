//! Pools of pilots over HTTP.

use serde::{Deserialize, Serialize};

use crate::id::PilotId;
use crate::scheduler::pilot_records::{PilotRecord, PilotState, PoolRecord, PoolSettings, PoolState};
use crate::time::Timestamp;

/// A pool with its pilots by state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PoolSummary {
    /// Its name.
    pub name: String,
    /// What its pilots are like, and how many there may be.
    pub settings: PoolSettings,
    /// Whether the coordinator's settings file says so.
    pub from_file: bool,
    /// Whether it gets pilots.
    pub state: PoolState,
    /// Why it's paused, or what went wrong last.
    pub reason: Option<String>,
    /// No pilots are asked for before.
    pub not_before: Timestamp,
    /// Its pilots that aren't over.
    pub pilots: PilotCounts,
}

impl PoolSummary {
    /// Puts what is known of a pool together.
    pub fn new<'a>(record: &PoolRecord, pilots: impl IntoIterator<Item = &'a PilotRecord>) -> Self {
        let mut counts = PilotCounts::default();
        for pilot in pilots.into_iter().filter(|pilot| pilot.pool == record.name) {
            counts.add(pilot);
        }
        let PoolRecord { name, settings, from_file, state, reason, not_before, .. } = record.clone();
        Self { name, settings, from_file, state, reason, not_before, pilots: counts }
    }
}

/// How many pilots are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PilotCounts {
    /// Those that the launcher is being asked for.
    pub submitting: usize,
    /// Those that the launcher has, and that don't run yet.
    pub waiting: usize,
    /// Those that run.
    pub running: usize,
    /// Those of them whose worker has come.
    pub working: usize,
    /// Those that the launcher has halted.
    pub suspended: usize,
    /// Those that were told to end.
    pub stopping: usize,
}

impl PilotCounts {
    fn add(&mut self, pilot: &PilotRecord) {
        match pilot.state {
            PilotState::Submitting => self.submitting += 1,
            PilotState::Waiting => self.waiting += 1,
            PilotState::Running => {
                self.running += 1;
                self.working += usize::from(pilot.worker.is_some());
            }
            PilotState::Suspended => self.suspended += 1,
            PilotState::Stopping => self.stopping += 1,
            PilotState::Ended | PilotState::Failed => {}
        }
    }

    /// All of them.
    pub const fn total(&self) -> usize {
        self.submitting + self.waiting + self.running + self.suspended + self.stopping
    }
}

/// All pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pools {
    /// By name.
    pub pools: Vec<PoolSummary>,
}

/// Pilots, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pilots {
    /// Those that are over too.
    pub pilots: Vec<PilotRecord>,
    /// What to give as `before` for earlier ones; `null` if there are none.
    pub next: Option<PilotId>,
}
