//! What the coordinator does by itself now and then: it notes when tokens were last used, and removes what is old.

use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::id::LeaseId;
use promptfield_core::time::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::retention::{Keep, Retention};
use crate::store::{PIECE, Reader, Removal, Reported, StoreError};
use crate::tokens::Tokens;
use crate::writer::{WriteError, Writer};

/// How often uses of tokens are noted.
const NOTE: Duration = Duration::from_mins(1);
/// How often what is old is looked for.
const TIDY: Duration = Duration::from_hours(1);
/// Attempts that are looked up together.
const PAGE: u32 = 500;

/// What the upkeep works with.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    pub(crate) tokens: Tokens,
    pub(crate) retention: Retention,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

/// Why something old is still there; it's looked for again later.
#[derive(Debug, thiserror::Error)]
enum TidyError {
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Upkeep {
    /// Runs until it's told to stop. Uses of tokens are noted once more then.
    pub(crate) async fn run(self) {
        tokio::join!(self.note_again_and_again(), self.tidy_again_and_again());
    }

    async fn note_again_and_again(&self) {
        let mut ticks = ticks(NOTE);
        while !self.stop.is_cancelled() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stop.cancelled() => {}
            }
            self.note_uses().await;
        }
    }

    async fn note_uses(&self) {
        let uses = self.tokens.take_uses();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.writer.change_tokens(uses).await {
            tracing::warn!(error = chain(&error), "can't note when tokens were last used");
        }
    }

    async fn tidy_again_and_again(&self) {
        let mut ticks = ticks(TIDY);
        // What is broken off goes on after the next start.
        let tidying = self.stop.run_until_cancelled(async {
            loop {
                ticks.tick().await;
                if let Err(error) = self.tidy().await {
                    tracing::warn!(
                        error = chain(&error),
                        "can't remove everything that is old; it's tried again later"
                    );
                }
            }
        });
        let _: Option<std::convert::Infallible> = tidying.await;
    }

    async fn tidy(&self) -> Result<(), TidyError> {
        let Retention { events, logs, metrics } = self.retention;
        let oldest = Removal::Events { before: self.begin(events), rows: events.rows };
        self.remove("events", oldest).await?;
        self.tidy_reported(Reported::Log, logs).await?;
        self.tidy_reported(Reported::Metrics, metrics).await?;
        self.metrics.tidied();
        Ok(())
    }

    /// Removes what attempts reported that ended too long ago, and what the earliest ones reported while there is too much.
    async fn tidy_reported(&self, reported: Reported, keep: Keep) -> Result<(), TidyError> {
        self.remove_reported(reported, self.begin(keep), u64::MAX).await?;
        let surplus = self.reader.count_reported(reported).await?.saturating_sub(keep.rows);
        self.remove_reported(reported, Timestamp(i64::MAX), surplus).await
    }

    /// Goes through the attempts that ended before a time, from the earliest on, until so many rows are gone.
    async fn remove_reported(&self, reported: Reported, before: Timestamp, mut rows: u64) -> Result<(), TidyError> {
        let kind = match reported {
            Reported::Log => "log_lines",
            Reported::Metrics => "metric_points",
        };
        let mut last = LeaseId(0);
        while rows > 0 {
            let attempts = self.reader.ended_attempts(reported, last, before, PAGE).await?;
            let Some(end) = attempts.last() else { break };
            last = *end;
            for attempt in attempts {
                if rows == 0 {
                    break;
                }
                let removed = self.remove(kind, Removal::Reported(reported, attempt)).await?;
                rows = rows.saturating_sub(removed);
            }
        }
        Ok(())
    }

    /// Removes piece after piece, between which the writer has time for others.
    async fn remove(&self, kind: &'static str, removal: Removal) -> Result<u64, TidyError> {
        let mut all = 0;
        loop {
            let removed = self.writer.remove(removal).await?;
            self.metrics.removed(kind, removed);
            all += removed;
            if removed < PIECE {
                return Ok(all);
            }
        }
    }

    /// Since when something is kept.
    fn begin(&self, keep: Keep) -> Timestamp {
        let age = i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX);
        self.clock.now().plus(age.saturating_neg())
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
