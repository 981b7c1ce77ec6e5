//! How far an experiment is: bars on a terminal, plain lines elsewhere. All of it on stderr.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use promptfield_core::id::JobId;
use promptfield_core::scheduler::{Counts, JobStateName};
use promptfield_core::wire::api::JobSummary;

use crate::output::{self, remark};
use crate::{print, terminal};

/// Shows the progress of one experiment.
pub(crate) struct Display {
    mode: Mode,
    started: Instant,
    /// Jobs that had a result when the display began: they say nothing about speed.
    done_before: Option<usize>,
    done: usize,
    total: usize,
    /// Jobs that were shown to have ended.
    shown: usize,
}

enum Mode {
    Bars { all: MultiProgress, overall: ProgressBar, jobs: BTreeMap<JobId, ProgressBar> },
    Lines,
    Silent,
}

impl Display {
    /// Bars if stderr is a terminal, lines if not, nothing for `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let mode = if quiet {
            Mode::Silent
        } else if std::io::stderr().is_terminal() {
            let all = MultiProgress::new();
            let overall =
                all.add(ProgressBar::new(0).with_style(style("{bar:32.green} {pos}/{len} jobs  {elapsed}  {msg}")));
            overall.enable_steady_tick(Duration::from_millis(250));
            Mode::Bars { all, overall, jobs: BTreeMap::new() }
        } else {
            Mode::Lines
        };
        Self { mode, started: Instant::now(), done_before: None, done: 0, total: 0, shown: 0 }
    }

    /// Whether the progress of running jobs is shown.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Bars { .. })
    }

    /// A sentence about what happens.
    pub(crate) fn say(&self, text: &str) {
        match &self.mode {
            // Above the bars, on a terminal that may be gone.
            Mode::Bars { all, .. } => drop(all.println(text)),
            Mode::Lines => print::talk(text),
            Mode::Silent => {}
        }
    }

    /// The experiment's jobs by state.
    pub(crate) fn counts(&mut self, counts: &Counts) {
        if self.done_before.is_none() {
            self.done_before = Some(counts.done());
            self.shown = counts.done();
        }
        (self.done, self.total) = (counts.done() + counts.failed + counts.cancelled, counts.total());
        let left = self.left();
        if let Mode::Bars { overall, .. } = &self.mode {
            overall.set_length(self.total as u64);
            overall.set_position(self.done as u64);
            let failed = if counts.failed > 0 { format!("  {} failed", counts.failed) } else { String::new() };
            let left = left.map_or_else(String::new, |left| format!("about {} left", output::duration(left)));
            overall.set_message(format!("{left}{failed}"));
        }
    }

    /// The jobs that run now.
    pub(crate) fn running(&mut self, running: &[JobSummary]) {
        let Mode::Bars { all, jobs, .. } = &mut self.mode else { return };
        jobs.retain(|id, bar| {
            let stays = running.iter().any(|job| job.id == *id);
            if !stays {
                bar.finish_and_clear();
                all.remove(bar);
            }
            stays
        });
        for job in running {
            let progress = job.progress.unwrap_or_default();
            let bar = jobs.entry(job.id).or_insert_with(|| {
                let style = style("{bar:32.cyan} {pos}/{len}  {msg}");
                all.add(ProgressBar::new(0).with_style(style))
            });
            bar.set_length(progress.steps.max(1));
            bar.set_position(progress.step);
            bar.set_message(terminal::in_line(&job.title).into_owned());
        }
    }

    /// A job that has a result, or has failed for good.
    pub(crate) fn ended(&mut self, job: &JobSummary) {
        let mark = match job.state {
            JobStateName::Failed => "failed: ",
            JobStateName::Skipped => "already complete: ",
            _ => "",
        };
        self.shown += 1;
        let width = self.total.to_string().len();
        self.say(&format!("[{:>width$}/{}] {}: {mark}{}", self.shown, self.total, job.title, remark(job)));
    }

    /// Takes the bars away.
    pub(crate) fn finish(self) {
        if let Mode::Bars { all, overall, jobs } = self.mode {
            for bar in jobs.into_values() {
                bar.finish_and_clear();
            }
            overall.finish_and_clear();
            drop(all);
        }
    }

    /// The time left at the pace so far.
    fn left(&self) -> Option<Duration> {
        let here = self.done.checked_sub(self.done_before?).filter(|done| *done > 0)?;
        let left = self.total.saturating_sub(self.done);
        Some(self.started.elapsed().mul_f64(left as f64 / here as f64))
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}
