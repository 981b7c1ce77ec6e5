//! How long training steps and test images take, by what `cargo xtask bench trainer` measured.
//!
//! Rule of this file: between two measured cells of one batch lies a straight line over the number of classes. Beyond them it
//! goes on with the slope from the first cell to the last, and where a batch has only one cell, with that of the batch which has
//! the most: texts cost the same whatever the batch.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::stats::Spread;
use crate::trainer::{CellPaces, Pace};

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The method in plain `PyTorch`.
    Plain,
    /// The trainer, all of whose images are new.
    Cold,
    /// The trainer, with what the frozen tower makes of the images in the cache.
    Warm,
}

/// What it computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum On {
    /// The machine that the trainer was measured on.
    Measured,
    /// An RTX 3090: [`PUBLISHED`] for plain `PyTorch`, and the measured machine's ratios for the trainer.
    Rtx3090,
}

/// Classes, and milliseconds of a training step with 32 images on an RTX 3090 in fp32, with ViT-B/16: `AlignedNorm` (ICML 2026),
/// table of reference costs. The data sets with all their classes: `EuroSAT`, `DescribableTextures`, `UCF101`, `StanfordCars`,
/// `SUN397`, `ImageNet`.
const PUBLISHED: [(u32, f64); 6] = [(10, 256.5), (47, 270.3), (101, 295.7), (196, 357.0), (397, 467.6), (1000, 793.4)];
/// The batch of both.
const PUBLISHED_BATCH: u32 = 32;
/// Milliseconds of an evaluation's batch, there.
const PUBLISHED_INFERENCE: f64 = 85.0;

/// Seconds of a training step: of each batch the cells, classes and seconds, by their classes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Steps(BTreeMap<u32, Vec<(f64, f64)>>);

impl Steps {
    fn of(cells: impl IntoIterator<Item = (u32, u32, f64)>) -> Self {
        let mut steps = Self::default();
        for (classes, batch, seconds) in cells {
            steps.0.entry(batch).or_default().push((f64::from(classes), seconds));
        }
        for cells in steps.0.values_mut() {
            cells.sort_by(|a, b| a.0.total_cmp(&b.0));
            // Of a cell that was measured twice, the first counts.
            cells.dedup_by_key(|(classes, _)| *classes);
        }
        steps
    }

    /// Seconds of a step; `None` for a batch without a cell.
    fn seconds(&self, classes: f64, batch: u32) -> Option<f64> {
        let cells = self.0.get(&batch)?;
        let (first, last) = (*cells.first()?, *cells.last()?);
        let right = cells.partition_point(|(known, _)| *known < classes);
        let (at, seconds, slope) = match (right.checked_sub(1).map(|left| cells[left]), cells.get(right)) {
            (Some(left), Some(right)) => (left.0, left.1, slope(left, *right)),
            (None, _) => (first.0, first.1, self.slope(batch)),
            (_, None) => (last.0, last.1, self.slope(batch)),
        };
        // With fewer classes than were measured, no less than in proportion to them.
        let least = seconds * (classes / at).min(1.0);
        Some((seconds + slope * (classes - at)).max(if classes < at { least } else { 0.0 }))
    }

    /// What a class adds, beyond the cells of a batch.
    fn slope(&self, batch: u32) -> f64 {
        let own = self.0.get(&batch).filter(|cells| cells.len() > 1);
        let cells = own.or_else(|| self.0.values().max_by_key(|cells| cells.len()));
        let ends = cells.and_then(|cells| Some((*cells.first()?, *cells.last()?)));
        ends.map_or(0.0, |(first, last)| slope(first, last).max(0.0))
    }
}

fn slope(a: (f64, f64), b: (f64, f64)) -> f64 {
    if a.0 < b.0 { (b.1 - a.1) / (b.0 - a.0) } else { 0.0 }
}

#[derive(Clone, Debug)]
struct Speed {
    steps: Steps,
    image_s: f64,
}

/// The speed of each program on each machine.
#[derive(Clone, Debug)]
pub(super) struct Speeds {
    plain: Speed,
    cold: Speed,
    warm: Speed,
    published: Steps,
}

impl Speeds {
    /// From the measured cells of a backbone. An image's time is the median of all cells: it doesn't depend on the classes.
    pub(super) fn of(cells: &[CellPaces]) -> Result<Self> {
        let speed = |what: &str, pace: &dyn Fn(&CellPaces) -> Option<Pace>| {
            let measured: Vec<_> = cells.iter().filter_map(|cell| Some((cell.cell, pace(cell)?))).collect();
            let images = Spread::of(measured.iter().map(|(_, pace)| pace.image_s));
            let image_s = images.with_context(|| format!("there are no step times of {what} with ViT-B/16"))?.median;
            let all = measured.iter().all(|(_, pace)| pace.step_s > 0.0 && pace.image_s > 0.0);
            ensure!(all, "a step time of {what} is 0");
            let steps = Steps::of(measured.into_iter().map(|(cell, pace)| (cell.classes, cell.batch, pace.step_s)));
            Ok(Speed { steps, image_s })
        };
        let published = PUBLISHED.map(|(classes, ms)| (classes, PUBLISHED_BATCH, ms / 1e3));
        Ok(Self {
            plain: speed("plain PyTorch", &|cell| cell.plain)?,
            cold: speed("the trainer", &|cell| Some(cell.cold))?,
            warm: speed("the trainer with its cache", &|cell| Some(cell.warm))?,
            published: Steps::of(published),
        })
    }

    /// Seconds of a training step.
    pub(super) fn step_s(&self, on: On, program: Program, classes: u64, batch: u32) -> Result<f64> {
        let measured = |program| {
            let seconds = self.speed(program).steps.seconds(classes as f64, batch);
            seconds.with_context(|| {
                format!(
                    "no step with {batch} images was measured: `cargo xtask bench trainer --cells 50x{batch}` does it"
                )
            })
        };
        Ok(match on {
            On::Measured => measured(program)?,
            On::Rtx3090 => self.published_s(classes, batch) * measured(program)? / measured(Program::Plain)?,
        })
    }

    /// Seconds of each image of an evaluation.
    pub(super) fn image_s(&self, on: On, program: Program) -> f64 {
        let measured = self.speed(program).image_s;
        match on {
            On::Measured => measured,
            On::Rtx3090 => {
                PUBLISHED_INFERENCE / 1e3 / f64::from(PUBLISHED_BATCH) * measured / self.speed(Program::Plain).image_s
            }
        }
    }

    /// Plain `PyTorch` on an RTX 3090. What is left of a step without classes is the images', in proportion to their number.
    fn published_s(&self, classes: u64, batch: u32) -> f64 {
        let seconds = |classes| self.published.seconds(classes, PUBLISHED_BATCH).unwrap_or_default();
        // A line from the origin would hide the images' part, so it's taken from the first cell.
        let (first, slope) = (f64::from(PUBLISHED[0].0), self.published.slope(PUBLISHED_BATCH));
        let images = seconds(first) - slope * first;
        seconds(classes as f64) - images * (1.0 - f64::from(batch) / f64::from(PUBLISHED_BATCH))
    }

    const fn speed(&self, program: Program) -> &Speed {
        match program {
            Program::Plain => &self.plain,
            Program::Cold => &self.cold,
            Program::Warm => &self.warm,
        }
    }
}

/// A cell in which a step of ours takes so many seconds, half as many with the cache, and plain `PyTorch`'s twice as many.
#[cfg(test)]
pub(super) fn paces(classes: u32, batch: u32, step_s: f64) -> CellPaces {
    let pace = |step_s| Pace { step_s, image_s: step_s / 100.0 };
    CellPaces {
        cell: crate::trainer::Cell { classes, batch },
        cold: pace(step_s),
        warm: pace(step_s / 2.0),
        plain: Some(pace(step_s * 2.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_step_lies_on_a_line_between_cells_and_beyond_them() {
        let steps = Steps::of([(100, 4, 3.0), (10, 4, 1.0), (200, 4, 4.8), (50, 32, 9.0)]);
        for (classes, batch, seconds) in [
            (10.0, 4, 1.0),
            (55.0, 4, 2.0),
            (100.0, 4, 3.0),
            (150.0, 4, 3.9),
            (390.0, 4, 8.6),
            (5.0, 4, 0.9),
            (145.0, 32, 10.9),
        ] {
            let found = steps.seconds(classes, batch).unwrap();
            assert!(close(found, seconds), "{classes} × {batch}: {found}");
        }
        assert_eq!(steps.seconds(10.0, 8), None);
    }

    #[test]
    fn noise_makes_no_step_negative() {
        let steep = Steps::of([(10, 4, 1.0), (20, 4, 9.0)]);
        assert!(close(steep.seconds(5.0, 4).unwrap(), 0.5));
        let falling = Steps::of([(10, 4, 2.0), (20, 4, 1.0)]);
        assert_eq!([5.0, 15.0, 40.0].map(|classes| falling.seconds(classes, 4)), [Some(2.0), Some(1.5), Some(1.0)]);
    }

    #[test]
    fn on_a_gpu_the_published_time_is_divided_by_the_measured_ratio() {
        let cell = |classes, batch| paces(classes, batch, 4.0);
        let speeds = Speeds::of(&[cell(10, 32), cell(1000, 32), cell(10, 4)]).unwrap();
        let on_gpu = |program, classes, batch| speeds.step_s(On::Rtx3090, program, classes, batch).unwrap();
        assert!(close(on_gpu(Program::Plain, 196, 32), 0.357));
        assert!(close(on_gpu(Program::Cold, 196, 32), 0.357 / 2.0));
        assert!(close(on_gpu(Program::Warm, 1000, 32), 0.7934 / 4.0));
        assert!(close(speeds.image_s(On::Rtx3090, Program::Warm), 0.085 / 32.0 / 4.0));
        // Ten classes and all images are 256.5 ms; the images are all but ten times what a class adds.
        let class = (0.7934 - 0.2565) / 990.0;
        let images = 0.2565 - 10.0 * class;
        assert!(close(on_gpu(Program::Plain, 10, 4), 10.0 * class + images / 8.0));
        assert!(speeds.step_s(On::Measured, Program::Plain, 10, 8).unwrap_err().to_string().contains("50x8"));
        assert!(close(speeds.step_s(On::Measured, Program::Cold, 500, 32).unwrap(), 4.0));
    }
}
