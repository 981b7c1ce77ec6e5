//! A run in tables.

use super::case::Backbone;
use super::measure::{Ours, Times};
use super::work;
use super::{CellReport, Report};
use crate::markdown::table;

/// All of it.
pub(super) fn tables(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} ({} cores, {} threads used), Linux {}; load before the start: {}.\n",
        machine.processor, machine.cores, report.threads, machine.kernel, machine.load
    );
    for backbone in [Backbone::Miniature, Backbone::VitB16] {
        let cells: Vec<_> = report.cells.iter().filter(|cell| cell.backbone == backbone).collect();
        if !cells.is_empty() {
            text += &format!("\n### {backbone}: training steps\n\n{}", steps(&cells));
            text += &format!("\n### {backbone}: memory and evaluation\n\n{}", others(&cells));
        }
    }
    let mut reasons: Vec<&String> = report.cells.iter().filter_map(|cell| cell.plain.as_ref().err()).collect();
    reasons.dedup();
    for reason in reasons {
        text += &format!("\nPlain PyTorch wasn't measured: {reason}.\n");
    }
    text
}

fn steps(cells: &[&CellReport]) -> String {
    let rows = cells.iter().flat_map(|report| {
        let (ours, plain) = (&report.ours, report.plain.as_ref().ok());
        let geometry = report.backbone.geometry();
        let targets = report.cell.target().filter(|_| report.backbone == Backbone::VitB16);
        [(&ours.times, false), (&report.warm, true)].map(|(own, warm)| {
            let multiplications = work::step(&geometry, report.cell, &ours.text_rows, warm);
            [
                format!("{}, {}", report.cell.classes, report.cell.batch),
                if warm { "warm" } else { "none" }.to_owned(),
                seconds(own.step_s()),
                plain.map_or_else(dash, |plain| seconds(plain.times.step_s())),
                plain.map_or_else(dash, |plain| times(plain.times.step_s() / own.step_s())),
                plain.map_or_else(dash, |plain| times(plain.times.step_cpu_s() / own.step_cpu_s())),
                times(work::plain_step(&geometry, report.cell) / multiplications),
                targets.map_or_else(dash, |targets| times(targets[usize::from(warm)])),
                plain.map_or_else(dash, |plain| format!("{:.1e}", difference(own, &plain.times))),
                share(ours, multiplications, own.step_cpu_s()),
            ]
        })
    });
    table(
        [
            "classes, batch",
            "cache",
            "s/step",
            "PyTorch s/step",
            "faster by",
            "… in CPU time",
            "by multiplications",
            "to reach",
            "largest difference of a loss",
            "share of the arithmetic limit",
        ],
        rows,
    )
}

fn others(cells: &[&CellReport]) -> String {
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    let rows = cells.iter().flat_map(|report| {
        let (ours, plain) = (&report.ours, report.plain.as_ref().ok());
        let geometry = report.backbone.geometry();
        let of = |part: u64, whole: u64| format!("{:.0} %", 100.0 * part as f64 / whole as f64);
        let per_second = |seconds: f64| format!("{:.1}", f64::from(report.images) / seconds);
        [(&ours.times, false), (&report.warm, true)].map(|(own, warm)| {
            let images = work::image(&geometry, warm) as f64 * f64::from(report.images);
            [
                format!("{}, {}", report.cell.classes, report.cell.batch),
                if warm { "warm" } else { "none" }.to_owned(),
                mebibytes(own.peak_bytes),
                mebibytes(ours.file_bytes),
                plain.map_or_else(dash, |plain| mebibytes(plain.times.peak_bytes)),
                plain.map_or_else(dash, |plain| of(own.peak_bytes, plain.times.peak_bytes)),
                per_second(own.evaluation_s()),
                plain.map_or_else(dash, |plain| per_second(plain.times.evaluation_s())),
                plain.map_or_else(dash, |plain| times(plain.times.evaluation_cpu_s() / own.evaluation_cpu_s())),
                share(ours, images, own.evaluation_cpu_s()),
            ]
        })
    });
    table(
        [
            "classes, batch",
            "cache",
            "peak memory",
            "… of it mapped files",
            "PyTorch's",
            "ours of PyTorch's",
            "evaluation images/s",
            "PyTorch's",
            "faster by, in CPU time",
            "share of the arithmetic limit",
        ],
        rows,
    )
}

/// What the multiplications would take of a CPU time, if all were as fast as the products of matrices measured.
fn share(ours: &Ours, multiplications: f64, cpu_s: f64) -> String {
    format!("{:.0} %", 100.0 * 2.0 * multiplications / ours.gemm_flops_per_cpu_s / cpu_s)
}

fn difference(ours: &Times, plain: &Times) -> f64 {
    ours.losses.iter().zip(&plain.losses).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

fn dash() -> String {
    "–".to_owned()
}
