//! A run as Markdown tables.

use promptfield_core::protocol::Protocol;

use crate::cell::{Measured, PREFETCH, Requests, plan};
use crate::peers::Outcome;
use crate::process::Cpu;
use crate::report::Report;
use crate::stats::Spread;

/// All tables of a run.
pub(crate) fn tables(report: &Report) -> String {
    let mut text = machine(report);
    if !report.cells.is_empty() {
        text += &format!("\n### Jobs that end at once\n\n{}", cells(report));
        text += &format!("\n### Where the CPU time goes\n\n{}", parts(report));
    }
    if !report.waiting.is_empty() {
        text += &format!("\n### Jobs that wait\n\n{}", waiting(report));
    }
    if !report.peers.is_empty() {
        text += &format!("\n### Peers\n\n{}", peers(report));
    }
    let targets = report.targets();
    if !targets.is_empty() {
        let rows = targets.into_iter().map(|target| {
            let met = if target.met { "yes" } else { "no" };
            [target.what.to_owned(), target.wanted.to_owned(), target.reached, met.to_owned()]
        });
        text += &format!("\n### Targets\n\n{}", table(["what", "target", "reached", "met"], rows));
    }
    text
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    format!(
        "{} ({} cores), Linux {}, databases on {}; load before the start: {}. Numbers are min/median/max.\n",
        machine.processor, machine.cores, machine.kernel, machine.file_system, machine.load
    )
}

fn cells(report: &Report) -> String {
    let rows = report.cells.iter().chain(&report.single).map(|runs| {
        let alone = report.single.as_ref().is_some_and(|single| std::ptr::eq(single, runs));
        let cell = runs.cell;
        let ms = |us: [fn(&Requests) -> u32; 2]| {
            us.map(|us| format!("{:.1}", runs.spread(|run| f64::from(us(&run.requests)) / 1e3).median)).join("/")
        };
        let [before, after] =
            [0, 1].map(|i| format!("{:.0}", runs.spread(|run| run.resident[i] as f64 / f64::from(1 << 20)).median));
        [
            jobs_of(cell.protocol).to_owned(),
            count(cell.jobs),
            if alone { format!("{} × 1", cell.slots) } else { cell.slots.to_string() },
            decimals(runs.spread(|run| run.submit_s), 2),
            decimals(runs.spread(|run| run.wall_s), 2),
            decimals(runs.jobs_per_s(), 0),
            decimals(runs.cpu_us_per_job(), 0),
            ms([|requests| requests.lease_p50_us, |requests| requests.lease_p99_us]),
            ms([|requests| requests.complete_p50_us, |requests| requests.complete_p99_us]),
            format!("{before} → {after}"),
            format!("{:.0}", runs.spread(|run| run.database_bytes as f64 / cell.jobs as f64).median),
            decimals(runs.spread(|run| run.restart_s), 2),
        ]
    });
    let head = [
        "jobs",
        "number",
        "slots",
        "submission s",
        "wall s",
        "jobs/s",
        "CPU µs/job",
        "lease p50/p99 ms",
        "report p50/p99 ms",
        "RSS MiB",
        "database B/job",
        "restart s",
    ];
    format!(
        "{}\nA worker process takes up to its slots and {PREFETCH} jobs a request; 256 slots are {} processes. `64 × 1` are workers of \
         one slot, all in one process, that take one job a request.\n",
        table(head, rows),
        plan(256).processes
    )
}

fn parts(report: &Report) -> String {
    let rows = report.cells.iter().map(|runs| {
        let cell = runs.cell;
        let per_job = |cpu: &dyn Fn(&Measured) -> u64| {
            format!("{:.1}", runs.spread(|run| cpu(run) as f64 / cell.jobs as f64).median)
        };
        let thread = |run: &Measured, database: bool| {
            let named = run.run_threads.iter().filter(|(name, _)| name.starts_with("sqlx-sqlite") == database);
            named.map(|(_, cpu)| *cpu).sum::<Cpu>().total_us()
        };
        [
            jobs_of(cell.protocol).to_owned(),
            count(cell.jobs),
            cell.slots.to_string(),
            per_job(&|run| run.submit_cpu.total_us()),
            per_job(&|run| run.run_cpu.user_us),
            per_job(&|run| run.run_cpu.system_us),
            per_job(&|run| thread(run, true)),
            per_job(&|run| thread(run, false)),
            per_job(&|run| run.workers_cpu.total_us()),
            per_job(&|run| run.client_cpu.total_us()),
        ]
    });
    let head = [
        "jobs",
        "number",
        "slots",
        "coordinator: submission",
        "leases and reports, user",
        "… system",
        "… of both in SQLite's threads",
        "… in the others",
        "workers",
        "submitting client",
    ];
    format!(
        "{}\nµs a job, medians. The kernel counts in steps of 10 ms, which are 10 µs a job of 1,000.\n",
        table(head, rows)
    )
}

fn waiting(report: &Report) -> String {
    let rows = report.waiting.iter().map(|runs| {
        [
            count(runs.jobs),
            runs.experiments.to_string(),
            decimals(runs.spread(|run| run.submit_s), 2),
            decimals(runs.spread(|run| run.resident_per_job), 0),
            decimals(runs.spread(|run| run.database_per_job), 0),
            decimals(runs.spread(|run| run.restart_s), 2),
            decimals(runs.spread(|run| run.restarted_per_job), 0),
        ]
    });
    let head = [
        "number",
        "experiments",
        "submission s",
        "memory B/job",
        "database B/job",
        "restart s",
        "memory B/job after it",
    ];
    table(head, rows)
}

fn peers(report: &Report) -> String {
    let own = report.compared();
    let mut text = String::new();
    let mut rows = Vec::new();
    if let Some(own) = own {
        rows.push([
            format!("Promptfield, {} slots", own.cell.slots),
            env!("CARGO_PKG_VERSION").to_owned(),
            count(own.cell.jobs),
            decimals(own.jobs_per_s(), 0),
            "1".to_owned(),
            decimals(own.cpu_us_per_job(), 0),
            "1".to_owned(),
            "each answer, by fsync".to_owned(),
        ]);
    }
    for peer in &report.peers {
        match &peer.outcome {
            Outcome::Measured { version, durable, jobs_per_s, cpu_us_per_job } => rows.push([
                peer.name.clone(),
                version.clone(),
                count(peer.jobs),
                decimals(*jobs_per_s, 0),
                ratio(own.map(|own| own.jobs_per_s().median), Some(jobs_per_s.median)),
                decimals(*cpu_us_per_job, 0),
                ratio(Some(cpu_us_per_job.median), own.map(|own| own.cpu_us_per_job().median)),
                durable.clone(),
            ]),
            Outcome::Missing(reason) => text += &format!("- Not measured: {}: {reason}.\n", peer.name),
        }
    }
    let head = [
        "what",
        "version",
        "jobs",
        "jobs/s",
        "Promptfield is faster by",
        "CPU µs/job",
        "… takes less by",
        "survives a crash",
    ];
    format!("{}\n{text}", table(head, rows.into_iter()))
}

const fn jobs_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::FewShot => "alone",
        Protocol::BaseToNew | Protocol::CrossDataset => "train, then test",
    }
}

pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.map(str::to_owned)) + &line(&[const { "---" }; N].map(str::to_owned));
    rows.for_each(|row| text += &line(&row));
    text
}

/// Only one number if the three are the same.
pub(crate) fn decimals(spread: Spread, places: usize) -> String {
    let [min, median, max] = [spread.min, spread.median, spread.max].map(|value| format!("{value:.places$}"));
    if min == max { median } else { format!("{min}/{median}/{max}") }
}

/// `12,345`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// How often one number goes into another.
pub(crate) fn ratio(of: Option<f64>, by: Option<f64>) -> String {
    match of.zip(by) {
        Some((of, by)) if by > 0.0 => {
            let ratio = of / by;
            let places = if ratio < 10.0 { 2 } else { 0 };
            format!("{ratio:.places$} ×")
        }
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([7, 1_000, 12_345, 1_000_000].map(count), ["7", "1,000", "12,345", "1,000,000"]);
    }

    #[test]
    fn a_spread_shows_as_many_numbers_as_differ() {
        let spread = Spread { min: 1.04, median: 2.0, max: 30.0 };
        assert_eq!(decimals(spread, 1), "1.0/2.0/30.0");
        assert_eq!(decimals(Spread { min: 2.01, median: 2.02, max: 2.04 }, 1), "2.0");
    }

    #[test]
    fn a_ratio_without_a_number_is_a_dash() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), "1.50 ×");
        assert_eq!(ratio(Some(1.0), Some(4.0)), "0.25 ×");
        assert_eq!(ratio(Some(300.0), Some(2.0)), "150 ×");
        assert_eq!(ratio(Some(3.0), Some(0.0)), "–");
        assert_eq!(ratio(None, Some(2.0)), "–");
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let rows = [["1", "2"], ["3", "4"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["a", "b"], rows.into_iter()), "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n");
    }
}
