//! The time that the scheduler is told.

use std::time::{Duration, SystemTime};

use promptfield_core::time::Timestamp;
use tokio::time::Instant;

/// The wall clock at the start plus what a monotonic clock has counted since: whoever sets the wall clock neither ends a
/// lease nor makes one last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { wall: SystemTime::now().into(), start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall.plus(i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// When it will be `time`, or was.
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        let since_start = u64::try_from(time.since(self.wall)).unwrap_or(0);
        // A day's end is early enough to look again for anything later.
        self.start + Duration::from_millis(since_start).min(self.start.elapsed() + Duration::from_hours(24))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_follows_the_monotonic_clock() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_millis(1234)).await;
        assert_eq!(clock.now().since(before), 1234);
        assert_eq!(clock.instant(before.plus(1300)) - Instant::now(), Duration::from_millis(66));
        assert!(clock.instant(Timestamp(i64::MAX)) > Instant::now());
    }
}
