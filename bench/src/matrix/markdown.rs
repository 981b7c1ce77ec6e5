//! A run in tables.

use super::cluster::OF_A_HOST;
use super::demo::{Demo, Run, all_gaps, spread};
use super::full::{Full, METHODS, Who};
use super::speed::On;
use super::{FASTER, Report};
use crate::markdown::{count, decimals, ratio, table};

/// All of it.
pub(super) fn tables(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} ({} cores), Linux {}; load before the start: {}. Numbers are min/median/max.\n",
        machine.processor, machine.cores, machine.kernel, machine.load
    );
    if let Some(demo) = &report.demo {
        text += &format!("\n### The demo matrix\n\n{}", demo_matrix(demo));
    }
    if let Some(full) = &report.full {
        text += &format!("\n### The full matrix\n\n{}", introduction(full));
        for (on, title) in [
            (On::Measured, "GPUs as fast as the measured machine"),
            (On::Rtx3090, "RTX 3090: published times of plain PyTorch, divided by the measured machine's ratios"),
        ] {
            text += &format!("\n{title}:\n\n{}", full_matrix(full, on));
        }
    }
    text
}

fn demo_matrix(demo: &Demo) -> String {
    let row = |what: String, runs: &[Run]| {
        let gaps = all_gaps(runs);
        let gap = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2}"));
        [
            what,
            decimals(spread(runs, |run| run.wall_s), 1),
            format!("{:.2} ×", demo.faster_by(runs)),
            decimals(spread(runs, |run| run.cpu_s), 1),
            gap(gaps.map(|gaps| gaps.median)),
            gap(gaps.map(|gaps| gaps.max)),
        ]
    };
    let rows = [
        row(format!("`promptfield run`, {} workers", demo.workers), &demo.ours),
        row("a process for each job, with all cores".to_owned(), &demo.fresh),
        row("a process for each job, with one thread".to_owned(), &demo.fresh_one_thread),
    ];
    let head = [
        "how",
        "wall s",
        "`promptfield run` is faster by",
        "CPU s",
        "from a job's end to the next one's first step, median s",
        "… most s",
    ];
    let reached = demo.faster_by(&demo.fresh).min(demo.faster_by(&demo.fresh_one_thread));
    let all = 2 * demo.jobs * demo.ours.len();
    format!(
        "{}\n{} jobs; faster than the quicker loop by {reached:.2} × (to reach: {FASTER:.0} ×, {}). {} of {all} results of the \
         loops are equal; the largest difference of an accuracy is {:.2} percentage points.\n",
        table(head, rows.into_iter()),
        demo.jobs,
        if reached >= FASTER { "met" } else { "not met" },
        demo.equal,
        demo.largest_difference
    )
}

fn introduction(full: &Full) -> String {
    let machine = &full.trainer_measured_on;
    format!(
        "{} jobs: {}. Steps and images take what `cargo xtask bench trainer` measured, by {}, on {} ({} cores; load before the start: \
         {}); before the first step go by {:.2} s in a script, {:.2} s in a resident trainer. {OF_A_HOST} GPUs are a host, which has a \
         cache.\n",
        count(full.jobs as u64),
        METHODS.join(", "),
        if full.cpu_time { "CPU time divided by the threads" } else { "wall-clock" },
        machine.processor,
        machine.cores,
        machine.load,
        full.preparation.scripts_s,
        full.preparation.ours_s,
    )
}

fn full_matrix(full: &Full, on: On) -> String {
    let rows = full.runs.iter().filter(|run| run.on == on).map(|run| {
        let scripts = full.runs.iter().find(|other| (other.on, other.gpus, other.who) == (on, run.gpus, Who::Scripts));
        let hours = |seconds: f64| format!("{:.1}", seconds / 3600.0);
        [
            run.gpus.to_string(),
            match run.who {
                Who::Scripts => "scripts, plain PyTorch".to_owned(),
                Who::NoCache => "Promptfield without a cache".to_owned(),
                Who::Cache => format!("… with one of {} GiB", full.cache_gib),
                Who::WholeCache => "… with one that holds everything".to_owned(),
            },
            hours(run.ran.wall_s),
            ratio(scripts.map(|scripts| scripts.ran.wall_s), Some(run.ran.wall_s)),
            format!("{:.1} %", 100.0 * run.ran.busy_s / (run.gpus as f64 * run.ran.wall_s)),
            hours(run.ran.partly_s),
            if run.cache_bytes == 0 { "–".to_owned() } else { count(run.cache_bytes >> 30) },
        ]
    });
    let head =
        ["GPUs", "who", "hours", "faster than the scripts by", "GPUs busy", "hours with one idle", "cache, GiB a host"];
    table(head, rows)
}
