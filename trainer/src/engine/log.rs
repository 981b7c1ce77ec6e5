//! The lines of `log.txt` that people's parsers look for (method.md, section 7).

use std::time::Duration;

use promptfield_core::job::outcome::TestResult;

use super::score::RunningMean;

/// Running values of an epoch, for its log lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EpochMeters {
    /// Seconds of a step, waiting for its data included.
    pub(super) time: RunningMean,
    /// Seconds of waiting for a step's data.
    pub(super) data: RunningMean,
    /// The loss.
    pub(super) loss: RunningMean,
    /// Accuracy on the batch, in per cent.
    pub(super) accuracy: RunningMean,
}

/// Where an epoch's log line stands: counted from 1, with the totals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The epoch.
    pub(super) epoch: u32,
    /// Epochs in all.
    pub(super) epochs: u32,
    /// The batch.
    pub(super) batch: u32,
    /// Batches of an epoch.
    pub(super) batches: u32,
}

/// `epoch [3/10] batch [20/20] time 0.257 (0.261) …`: each value with its mean since the start of the epoch.
pub(super) fn epoch_line(at: Position, meters: &EpochMeters, lr: f64) -> String {
    let left = u64::from(at.batches - at.batch) + u64::from(at.epochs - at.epoch) * u64::from(at.batches);
    let eta = Duration::try_from_secs_f64(meters.time.mean() * left as f64).unwrap_or_default();
    format!(
        "epoch [{}/{}] batch [{}/{}] time {:.3} ({:.3}) data {:.3} ({:.3}) loss {:.4} ({:.4}) acc {:.4} ({:.4}) lr {} eta {}",
        at.epoch,
        at.epochs,
        at.batch,
        at.batches,
        meters.time.value,
        meters.time.mean(),
        meters.data.value,
        meters.data.mean(),
        meters.loss.value,
        meters.loss.mean(),
        meters.accuracy.value,
        meters.accuracy.mean(),
        scientific(lr),
        hours(eta),
    )
}

/// The `=> result` block that ends a log. Parsers know its first five lines.
pub(super) fn result_block(result: &TestResult) -> String {
    let calibration = result.calibration_error.map_or_else(String::new, |error| format!("\n* ece: {error:.1}%"));
    format!(
        "=> result\n* total: {}\n* correct: {}\n* accuracy: {:.1}%\n* error: {:.1}%\n* macro_f1: {:.1}%{calibration}",
        thousands(result.total),
        thousands(result.correct),
        result.accuracy,
        result.error,
        result.macro_f1
    )
}

/// `4200` → `4,200`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Python's `%.4e`: at least two digits of exponent, and its sign.
fn scientific(number: f64) -> String {
    let text = format!("{number:.4e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// Python's `str(timedelta)` of whole seconds: `0:00:36`, `1 day, 2:03:04`.
fn hours(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let clock = format!("{}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match seconds / 86_400 {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> RunningMean {
        let mut mean = RunningMean::default();
        for &value in values {
            mean.add(value);
        }
        mean
    }

    #[test]
    fn the_epoch_line_is_the_one_that_parsers_know() {
        let meters = EpochMeters {
            time: mean(&[0.265, 0.257]),
            data: mean(&[0.007, 0.001]),
            loss: mean(&[1.4567, 1.2345]),
            accuracy: mean(&[67.5, 75.0]),
        };
        let at = Position { epoch: 3, epochs: 10, batch: 20, batches: 20 };
        assert_eq!(
            epoch_line(at, &meters, 9.0451e-4),
            "epoch [3/10] batch [20/20] time 0.257 (0.261) data 0.001 (0.004) loss 1.2345 (1.3456) \
             acc 75.0000 (71.2500) lr 9.0451e-04 eta 0:00:36"
        );
    }

    #[test]
    fn the_result_block_is_the_one_that_parsers_know() {
        let result = TestResult {
            total: 4200,
            correct: 4036,
            accuracy: 100.0 * 4036.0 / 4200.0,
            error: 100.0 * 164.0 / 4200.0,
            macro_f1: 96.06,
            calibration_error: Some(1.234),
        };
        let block = result_block(&result);
        assert_eq!(
            block,
            "=> result\n* total: 4,200\n* correct: 4,036\n* accuracy: 96.1%\n* error: 3.9%\n* macro_f1: 96.1%\n\
             * ece: 1.2%"
        );
        let read = promptfield_core::job::layout::parse_log_result(&block).unwrap();
        assert_eq!((read.total, read.correct, read.calibration_error), (4200, 4036, Some(1.2)));
    }

    #[test]
    fn numbers_look_as_python_prints_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1e-5, 0.0, 12.5, 1e-100].map(scientific),
            ["1.0000e-05", "0.0000e+00", "1.2500e+01", "1.0000e-100"]
        );
        assert_eq!(
            [59, 3600, 93_784, 200_000].map(|seconds| hours(Duration::from_secs(seconds))),
            ["0:00:59", "1:00:00", "1 day, 2:03:04", "2 days, 7:33:20"]
        );
    }
}
