//! What a running job tells the coordinator.
//!
//! A trainer speaks as often as it likes; the [`Outbox`] keeps what the coordinator hasn't acknowledged, and keeps it small
//! however long the coordinator is away: the latest progress, an even selection of the metrics, the last lines of the log. It is
//! emptied by acknowledgement only, so a report that is broken off or repeated loses and doubles nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promptfield_core::id::FencingToken;
use promptfield_core::job::outcome::Progress;
use promptfield_core::wire::api::{LogChunk, MetricPoint, ProgressReport};
use tokio::sync::Notify;

/// The shortest time between two reports of one job.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);
/// A trainer that has said nothing for so long is silent: what works says so three times in that time.
const SILENCE: Duration = Duration::from_secs(30);
/// The most metric points in a report.
const MOST_POINTS: usize = 50;
/// The most log lines that wait for the coordinator.
const MOST_LINES: usize = 5_000;
/// The most log lines in a report.
const LINES_PER_REPORT: usize = 500;

/// What the coordinator hasn't acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    contents: Mutex<Contents>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Contents {
    progress: Option<Progress>,
    /// The latest progress, whether or not it was acknowledged.
    last: Progress,
    /// Whether a silence was said, and not yet that it's over.
    silent: bool,
    metrics: Metrics,
    log: Log,
}

impl Outbox {
    pub(crate) fn progress(&self, progress: Progress) {
        let mut contents = self.contents();
        (contents.progress, contents.last) = (Some(progress), progress);
        drop(contents);
        self.changed.notify_one();
    }

    pub(crate) fn metrics(&self, step: u64, values: BTreeMap<String, f64>) {
        self.contents().metrics.push(MetricPoint { step, values });
        self.changed.notify_one();
    }

    pub(crate) fn log(&self, line: String) {
        self.contents().log.push(line);
        self.changed.notify_one();
    }

    /// Returns when there is something to report.
    pub(crate) async fn filled(&self) {
        while self.is_empty() {
            // A notification since the look stays stored until here.
            self.changed.notified().await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let contents = self.contents();
        contents.progress.is_none() && contents.metrics.points.is_empty() && contents.log.is_empty()
    }

    /// A report of what there is, up to what one report may hold. A silence that lasts is said with where the job stood before it.
    pub(crate) fn report(&self, token: FencingToken, silence: Duration) -> ProgressReport {
        let mut contents = self.contents();
        let lasts = silence >= SILENCE;
        contents.silent |= lasts;
        let silent_s = if lasts { silence.as_secs() as u32 } else { 0 };
        let silent = contents.silent.then(|| Progress { silent_s, ..contents.last });
        ProgressReport {
            token,
            progress: contents.progress.or(silent),
            metrics: contents.metrics.points.clone(),
            log: contents.log.chunk(),
        }
    }

    /// Removes what a report held.
    pub(crate) fn acknowledge(&self, report: &ProgressReport) {
        let mut contents = self.contents();
        if contents.progress == report.progress {
            contents.progress = None;
        }
        if report.progress.is_some_and(|progress| progress.silent_s == 0) {
            contents.silent = false;
        }
        if let Some(last) = report.metrics.last() {
            contents.metrics.acknowledge(last.step);
        }
        if let Some(chunk) = &report.log {
            contents.log.acknowledge(chunk.first_line + chunk.lines.len() as u64);
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An even selection of the points since the last acknowledgement: when there are too many, every second one goes, and from
/// then on only every second (fourth, eighth, …) new one comes in.
#[derive(Debug, Default)]
struct Metrics {
    points: Vec<MetricPoint>,
    /// How often the selection was halved.
    halvings: u32,
    /// Points to leave out until the next one comes in.
    skip: u64,
}

impl Metrics {
    fn push(&mut self, point: MetricPoint) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        if self.points.len() == MOST_POINTS {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.halvings += 1;
        }
        self.points.push(point);
        self.skip = (1 << self.halvings.min(63)) - 1;
    }

    fn acknowledge(&mut self, last_step: u64) {
        self.points.retain(|point| point.step > last_step);
        (self.halvings, self.skip) = (0, 0);
    }
}

/// Lines by their number. When too many wait, the oldest are lost, and the report says so in the place of the last lost one.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    /// The number of the first of `lines`.
    first: u64,
    /// How many lines right before `first` were lost.
    lost: u64,
}

impl Log {
    fn push(&mut self, line: String) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
            self.first += 1;
            self.lost += 1;
        }
        self.lines.push_back(line);
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }

    fn chunk(&self) -> Option<LogChunk> {
        if self.is_empty() {
            return None;
        }
        let notice = (self.lost > 0).then(|| {
            format!(
                "… {} lines are missing here: the coordinator was out of reach for too long; log.txt has them …",
                self.lost
            )
        });
        let first_line = self.first - u64::from(notice.is_some());
        let lines = notice.into_iter().chain(self.lines.iter().take(LINES_PER_REPORT).cloned()).collect();
        Some(LogChunk { first_line, lines })
    }

    /// Drops the lines before `end`, which may be beyond or before the first one that is still here: a report can be under
    /// way while lines are lost.
    fn acknowledge(&mut self, end: u64) {
        self.lost = self.lost.min(self.first.saturating_sub(end));
        let known = end.saturating_sub(self.first).min(self.lines.len() as u64);
        self.lines.drain(..known as usize);
        self.first += known;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: FencingToken = FencingToken(1);

    #[test]
    fn an_acknowledged_report_empties_the_outbox_and_another_one_repeats() {
        let outbox = Outbox::default();
        outbox.log("a".into());
        outbox.metrics(0, BTreeMap::new());
        outbox.progress(Progress { step: 1, ..Progress::default() });
        let report = outbox.report(TOKEN, Duration::ZERO);
        assert_eq!(outbox.report(TOKEN, Duration::ZERO), report);

        outbox.log("b".into());
        outbox.metrics(1, BTreeMap::new());
        outbox.progress(Progress { step: 2, ..Progress::default() });
        outbox.acknowledge(&report);
        let rest = outbox.report(TOKEN, Duration::ZERO);
        assert_eq!(rest.progress.map(|progress| progress.step), Some(2));
        assert_eq!(rest.metrics.iter().map(|point| point.step).collect::<Vec<_>>(), [1]);
        assert_eq!(rest.log, Some(LogChunk { first_line: 1, lines: vec!["b".into()] }));

        outbox.acknowledge(&rest);
        assert!(outbox.is_empty());
        assert_eq!(outbox.report(TOKEN, Duration::ZERO).log, None);
    }

    #[test]
    fn metrics_are_thinned_evenly() {
        let outbox = Outbox::default();
        for step in 0..1_000 {
            outbox.metrics(step, BTreeMap::new());
        }
        let steps: Vec<_> = outbox.report(TOKEN, Duration::ZERO).metrics.iter().map(|point| point.step).collect();
        assert!((MOST_POINTS / 2..=MOST_POINTS).contains(&steps.len()), "{}", steps.len());
        assert!(steps.windows(2).all(|pair| pair[1] - pair[0] == 32), "{steps:?}");
        outbox.acknowledge(&outbox.report(TOKEN, Duration::ZERO));
        outbox.metrics(1_000, BTreeMap::new());
        assert_eq!(outbox.report(TOKEN, Duration::ZERO).metrics.len(), 1);
    }

    #[test]
    fn a_long_log_goes_in_several_reports() {
        let outbox = Outbox::default();
        for line in 0..=LINES_PER_REPORT {
            outbox.log(line.to_string());
        }
        outbox.acknowledge(&outbox.report(TOKEN, Duration::ZERO));
        let rest = outbox.report(TOKEN, Duration::ZERO).log.unwrap();
        assert_eq!((rest.first_line, rest.lines), (LINES_PER_REPORT as u64, vec![LINES_PER_REPORT.to_string()]));
    }

    #[test]
    fn lost_lines_are_mentioned_and_keep_their_numbers() {
        let mut log = Log::default();
        let mut next = 0;
        let mut push = |log: &mut Log, count: usize| {
            for _ in 0..count {
                log.push(next.to_string());
                next += 1;
            }
        };
        push(&mut log, MOST_LINES);
        let under_way = log.chunk().unwrap();
        assert_eq!((under_way.first_line, under_way.lines[0].as_str()), (0, "0"));

        // While the first report is under way 600 more lines come; 500 of the 600 oldest were in it.
        push(&mut log, 600);
        log.acknowledge(LINES_PER_REPORT as u64);
        let chunk = log.chunk().unwrap();
        assert_eq!(chunk.first_line, 599);
        assert!(chunk.lines[0].starts_with("… 100 lines are missing"), "{}", chunk.lines[0]);
        assert_eq!(chunk.lines[1], "600");
        log.acknowledge(chunk.first_line + chunk.lines.len() as u64);
        assert_eq!(log.chunk().unwrap().first_line, 600 + LINES_PER_REPORT as u64);
    }

    #[test]
    fn a_silence_that_lasts_is_said_with_where_the_job_stood() {
        let outbox = Outbox::default();
        let stood = Progress { step: 7, ..Progress::default() };
        outbox.progress(stood);
        outbox.acknowledge(&outbox.report(TOKEN, Duration::ZERO));
        assert_eq!(outbox.report(TOKEN, Duration::from_secs(29)).progress, None);
        let said = outbox.report(TOKEN, Duration::from_secs(90)).progress;
        assert_eq!(said, Some(Progress { silent_s: 90, ..stood }));
        // So is its end, once.
        let over = outbox.report(TOKEN, Duration::ZERO);
        assert_eq!(over.progress, Some(stood));
        outbox.acknowledge(&over);
        assert_eq!(outbox.report(TOKEN, Duration::ZERO).progress, None);
    }
}
