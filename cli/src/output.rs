//! What commands print: tables for people, JSON for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::outcome::TestResult;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::Methods;
use promptfield_core::results::tables::{Grid, ResultTable};
use promptfield_core::scheduler::machine_fault::MachineFault;
use promptfield_core::scheduler::pilot_records::PilotRecord;
use promptfield_core::scheduler::{Counts, WorkerDescription, WorkerState};
use promptfield_core::time::Timestamp;
use promptfield_core::wire::access::TokenSummary;
use promptfield_core::wire::api::pools::PoolSummary;
use promptfield_core::wire::api::{ExperimentSummary, JobSummary, PinnedBackbone, Results, WorkerSummary};

use crate::terminal::in_line;

/// Lines above, below the header and below, as in papers.
const RULED: TableStyle = TableStyle::new().top_border(line('─')).header_separator(line('─')).bottom_border(line('─'));

const fn line(fill: char) -> LineStyle {
    LineStyle::new(fill, fill, fill, fill)
}

/// The pools.
pub(crate) fn pools(pools: &[PoolSummary]) -> String {
    let mut table = table(&["pool", "launcher", "state", "pilots", "working", "most", "reason"]);
    for PoolSummary { name, settings, state, reason, pilots, .. } in pools {
        add(
            &mut table,
            [
                name.clone(),
                settings.launcher.to_string(),
                state.to_string(),
                pilots.total().to_string(),
                pilots.working.to_string(),
                settings.max.to_string(),
                reason.clone().unwrap_or_default(),
            ],
        );
    }
    align_right(&mut table, 3..6);
    table.trim_fmt()
}

/// Pilots.
pub(crate) fn pilots(pilots: &[PilotRecord]) -> String {
    let mut table = table(&["pilot", "pool", "state", "job", "node", "worker", "detail"]);
    for PilotRecord { id, pool, state, launcher_id, node, worker, detail, .. } in pilots {
        add(
            &mut table,
            [
                id.to_string(),
                pool.clone(),
                state.to_string(),
                launcher_id.clone().unwrap_or_default(),
                node.clone().unwrap_or_default(),
                worker.map(|worker| worker.to_string()).unwrap_or_default(),
                detail.clone().unwrap_or_default(),
            ],
        );
    }
    table.trim_fmt()
}

/// A line for each of them.
pub(crate) fn lines<T>(items: &[T], line: impl FnMut(&T) -> String) -> String {
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The result table with what its marks mean.
pub(crate) fn results(results: &Results, methods: &Methods) -> String {
    let counts = results.experiment.counts;
    let words = results.table.grid(methods);
    let mut text = grid(&words);
    text.push_str("\nAccuracy in per cent: mean ± standard deviation over seeds");
    text.push_str(match results.table {
        ResultTable::BaseToNew(_) => "; H: harmonic mean of base and new.",
        ResultTable::CrossDataset(_) | ResultTable::FewShot(_) => ".",
    });
    for note in words.notes.iter().chain(&results.notes) {
        text.push_str(&format!("\n{}", in_line(note)));
    }
    if counts.open() + counts.failed + counts.cancelled > 0 {
        text.push_str(&format!("\n* provisional: {} of {} jobs have a result", counts.done(), counts.total()));
    }
    text
}

/// A grid as a table, a line between its groups.
fn grid(grid: &Grid) -> String {
    let mut table = table(&grid.header);
    for (i, group) in grid.groups.iter().enumerate() {
        if i > 0 {
            table.add_row(vec![""; grid.header.len()]);
        }
        for row in group {
            add(&mut table, row.iter().map(|cell| &cell.words));
        }
    }
    align_right(&mut table, 2..grid.header.len());
    table.trim_fmt()
}

/// Numbers stand to the right.
pub(crate) fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A job's numbers, class by class, and its rates over all of them.
pub(crate) fn evaluation(job: &JobSummary, evaluation: &Evaluation) -> String {
    let mut table = table(&["Class", "Images", "Accuracy", "Most often taken for"]);
    let name = |label: u32| evaluation.classes.get(label as usize).map_or("", |class| class.name.as_str());
    for class in &evaluation.classes {
        add(
            &mut table,
            [
                class.name.clone(),
                class.images.to_string(),
                class.accuracy().map_or_else(|| "–".to_owned(), |accuracy| format!("{accuracy:.2}")),
                class.most_confused().map_or_else(String::new, |(label, images)| format!("{} ({images})", name(label))),
            ],
        );
    }
    align_right(&mut table, 1..3);
    let mut text = format!("{}\n{}", job.title, table.trim_fmt());
    if let Some(TestResult { accuracy, macro_f1, calibration_error, .. }) = job.result {
        text.push_str(&format!("\nIn per cent: accuracy {accuracy:.2}, macro-F1 {macro_f1:.2}"));
        if let Some(error) = calibration_error {
            text.push_str(&format!(", calibration error {error:.2}"));
        }
        text.push('.');
    }
    text
}

/// The workers that are here with other weights than those that a backbone's name is pinned to, a sentence each.
pub(crate) fn other_backbones(workers: &[WorkerSummary], pinned: &[PinnedBackbone]) -> Vec<String> {
    let pins: BTreeMap<String, BasisHash> =
        pinned.iter().map(|PinnedBackbone { backbone, sha256 }| (backbone.clone(), *sha256)).collect();
    let here = workers.iter().filter(|worker| matches!(worker.state, WorkerState::Active | WorkerState::Draining));
    let others = here.flat_map(|worker| {
        let WorkerDescription { name, backbones, .. } = &worker.description;
        let pins = &pins;
        backbones.iter().filter_map(move |backbone| {
            let own = worker.description.other_backbone(backbone, pins)?;
            let pinned = pins.get(backbone)?;
            Some(format!(
                "worker `{name}` has the backbone `{backbone}` as {}, and results rest on {}: it gets no jobs with it",
                own.short(),
                pinned.short()
            ))
        })
    });
    others.collect()
}

/// What machines were found unable to use, a sentence each.
pub(crate) fn faults(faults: &[MachineFault], now: Timestamp) -> impl Iterator<Item = String> {
    faults.iter().map(move |fault| {
        let sooner = if fault.bars(now) && fault.trial.is_none() { ", or after `promptfield recheck`" } else { "" };
        format!("{}: {}{sooner}", fault.words(), fault.next_words(now))
    })
}

/// The list of experiments.
pub(crate) fn experiments(experiments: &[ExperimentSummary]) -> String {
    let mut table = table(&["", "Experiment", "Protocol", "Submitted", "Jobs"]);
    for experiment in experiments {
        table.add_row([
            experiment.id.to_string(),
            experiment.name.clone(),
            experiment.protocol.to_string(),
            experiment.submitted_at.to_string(),
            standing(experiment),
        ]);
    }
    table.trim_fmt()
}

/// What there is to say of an experiment's jobs; of one that was cancelled, that it was.
fn standing(experiment: &ExperimentSummary) -> String {
    let counts = counts(&experiment.counts);
    match (experiment.cancelled, experiment.counts.open()) {
        (false, _) => counts,
        (true, 0) => format!("cancelled; {counts}"),
        (true, open) => format!("cancelled, {open} go on for other experiments; {counts}"),
    }
}

/// The list of an experiment's jobs.
pub(crate) fn jobs(jobs: &[JobSummary]) -> String {
    let mut table = table(&["", "Job", "State", ""]);
    for job in jobs {
        add(&mut table, [job.id.to_string(), job.title.clone(), job.state.to_string(), remark(job)]);
    }
    table.trim_fmt()
}

/// The list of workers.
pub(crate) fn workers(workers: &[WorkerSummary]) -> String {
    let mut table = table(&["", "Worker", "Host", "State", "Slots", "Jobs"]);
    for worker in workers {
        let jobs: Vec<String> = worker.jobs.iter().map(ToString::to_string).collect();
        add(
            &mut table,
            [
                worker.id.to_string(),
                worker.description.name.clone(),
                worker.description.host.clone(),
                worker.state.to_string(),
                worker.description.slots.to_string(),
                jobs.join(", "),
            ],
        );
    }
    table.trim_fmt()
}

/// The list of tokens.
pub(crate) fn tokens(tokens: &[TokenSummary], now: Timestamp) -> String {
    let mut table = table(&["", "Token", "Scopes", "Made", "Expires", "Last used", "State"]);
    let time = |time: Option<Timestamp>| time.map_or_else(|| "–".to_owned(), |time| time.to_string());
    for token in tokens {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let state = match token.revoked_at {
            Some(_) => "revoked",
            None if token.is_valid(now) => "valid",
            None => "expired",
        };
        add(
            &mut table,
            [
                token.id.to_string(),
                token.name.clone(),
                scopes.join(", "),
                token.created_at.to_string(),
                time(token.expires_at),
                time(token.last_used_at),
                state.to_owned(),
            ],
        );
    }
    table.trim_fmt()
}

/// What there is to say of a job in a few words: its number, how far it is, or why it failed.
pub(crate) fn remark(job: &JobSummary) -> String {
    match (&job.result, &job.failure, &job.progress) {
        (Some(result), ..) => format!("{:.2} % of {} images", result.accuracy, result.total),
        (_, Some(failure), _) => in_line(&failure.reason).into_owned(),
        (.., Some(progress)) => format!("step {} of {}", progress.step, progress.steps),
        _ => String::new(),
    }
}

/// `20 jobs: 12 completed, 2 running`, states without jobs left out.
pub(crate) fn counts(counts: &Counts) -> String {
    let states = [
        (counts.completed, "completed"),
        (counts.skipped, "skipped as complete"),
        (counts.running, "running"),
        (counts.leased, "starting"),
        (counts.queued, "queued"),
        (counts.blocked, "blocked"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
    ];
    let parts: Vec<String> = states.iter().filter(|(n, _)| *n > 0).map(|(n, state)| format!("{n} {state}")).collect();
    format!("{} jobs: {}", counts.total(), if parts.is_empty() { "none".to_owned() } else { parts.join(", ") })
}

/// `1 min 05 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{:.1} s", duration.as_secs_f64()),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// A table with lines as in papers, at the terminal's width.
pub(crate) fn table<T: AsRef<str>>(header: &[T]) -> Table {
    let mut table = Table::new();
    table.load_style(RULED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(AsRef::as_ref));
    table
}

/// Adds a row. What stands in its cells comes from elsewhere, and makes no rows of its own.
pub(crate) fn add<T: AsRef<str>>(table: &mut Table, cells: impl IntoIterator<Item = T>) {
    table.add_row(cells.into_iter().map(|cell| in_line(cell.as_ref()).into_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_name_only_what_there_is() {
        let two = Counts { completed: 2, failed: 1, ..Counts::default() };
        assert_eq!(counts(&two), "3 jobs: 2 completed, 1 failed");
        assert_eq!(counts(&Counts::default()), "0 jobs: none");
    }

    #[test]
    fn an_evaluation_is_a_class_a_line() {
        let text = r#"{"format":1,"classes":[{"name":"cat","images":8,"predicted":6,"correct":6,"confused":[[1,2]]},
            {"name":"dog","images":0,"predicted":2,"correct":0,"confused":[]}]}"#;
        let job = r#"{"id":7,"title":"zero_shot on pets, new classes","dataset":"pets","state":"completed","failures":0,
            "worker":null,"progress":null,"failure":null,"result":{"total":8,"correct":6,"accuracy":75.0,"error":25.0,
            "macro_f1":85.714,"calibration_error":12.345}}"#;
        let text = evaluation(&serde_json::from_str(job).unwrap(), &Evaluation::parse(text).unwrap());
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "zero_shot on pets, new classes");
        let words: Vec<Vec<&str>> = lines[1..].iter().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["cat", "8", "75.00", "dog", "(2)"]), "{text}");
        assert!(words.contains(&vec!["dog", "0", "–"]), "{text}");
        assert_eq!(lines.last(), Some(&"In per cent: accuracy 75.00, macro-F1 85.71, calibration error 12.35."));
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 05 s");
        assert_eq!(duration(Duration::from_mins(121)), "2 h 01 min");
    }
}
