//! What of a trainer's measurements a matrix is reckoned from.

use super::measure::Times;
use super::{Backbone, Cell, Report};

/// The seconds of a training step, and of each image of an evaluation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) step_s: f64,
    pub(crate) image_s: f64,
}

/// A cell in three ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellPaces {
    pub(crate) cell: Cell,
    /// Ours, without the cache.
    pub(crate) cold: Pace,
    /// Ours, with the images in the cache.
    pub(crate) warm: Pace,
    /// Plain `PyTorch`, if it was measured.
    pub(crate) plain: Option<Pace>,
}

impl Report {
    /// What a backbone's cells took: by wall-clock, or as CPU time divided by the threads.
    pub(crate) fn paces(&self, backbone: Backbone, cpu_time: bool) -> Vec<CellPaces> {
        let threads = f64::from(self.threads);
        let cells = self.cells.iter().filter(|report| report.backbone == backbone);
        cells
            .map(|report| {
                let pace = |times: &Times| {
                    let [step_s, evaluation_s] = if cpu_time {
                        [times.step_cpu_s(), times.evaluation_cpu_s()].map(|seconds| seconds / threads)
                    } else {
                        [times.step_s(), times.evaluation_s()]
                    };
                    Pace { step_s, image_s: evaluation_s / f64::from(report.images) }
                };
                CellPaces {
                    cell: report.cell,
                    cold: pace(&report.ours.times),
                    warm: pace(&report.warm),
                    plain: report.plain.as_ref().ok().map(|plain| pace(&plain.times)),
                }
            })
            .collect()
    }
}
