//! How long a coordinator keeps what it needs neither for going on nor for a table of results.

use std::time::Duration;

/// What is kept of the kinds that would grow without end. Results, attempts and the states of jobs are kept for good, and so are
/// the newest event and what an attempt reported that hasn't ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events.
    pub events: Keep,
    /// Lines of logs; an attempt's go together.
    pub logs: Keep,
    /// Numbers of training steps; an attempt's go together.
    pub metrics: Keep,
}

/// How much of one kind is kept: what is older goes, and of what is left the oldest, when there are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Since it happened; since its attempt ended.
    pub age: Duration,
    /// Rows of the database.
    pub rows: u64,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self {
            events: Keep { age: days(90), rows: 5_000_000 },
            logs: Keep { age: days(180), rows: 20_000_000 },
            metrics: Keep { age: days(365), rows: 20_000_000 },
        }
    }
}
