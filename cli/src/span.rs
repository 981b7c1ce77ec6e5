//! Lengths of time as people write them: `90d`, `12h`.

use std::time::Duration;

use promptfield_core::input::InvalidInput;

/// Units by their letter, in seconds.
const UNITS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];

/// A length of time of whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl std::str::FromStr for Span {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        let seconds = UNITS.iter().find_map(|(unit, seconds)| {
            let number: u64 = text.trim().strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(*seconds).filter(|seconds| *seconds > 0)
        });
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(|| {
            InvalidInput::new("time", text, "a whole number of at least 1 and a unit, `s`, `m`, `h`, `d` or `w`: `30d`")
        })
    }
}

/// A length of time as people or as Slurm write it: `4h`, `4:00:00`, `1-12:00:00`; a bare number is minutes, as it is for Slurm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WallTime(pub(crate) Duration);

impl std::str::FromStr for WallTime {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        let expected = "a time such as `4h`, `4:00:00` or `1-12:00:00`";
        let seconds = as_slurm(text.trim()).or_else(|| Some(text.parse::<Span>().ok()?.0.as_secs()));
        let seconds =
            seconds.filter(|seconds| *seconds > 0).ok_or_else(|| InvalidInput::new("time", text, expected))?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

/// Seconds, as `sbatch --time` reads them: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`.
fn as_slurm(text: &str) -> Option<u64> {
    let (days, time) = text.split_once('-').map_or((None, text), |(days, time)| (Some(days), time));
    let parts = time.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let (days, [hours, minutes, seconds]) = match (days, parts.as_slice()) {
        (Some(days), [hours]) => (days.parse().ok()?, [*hours, 0, 0]),
        (Some(days), [hours, minutes]) => (days.parse().ok()?, [*hours, *minutes, 0]),
        (Some(days), [hours, minutes, seconds]) => (days.parse().ok()?, [*hours, *minutes, *seconds]),
        (None, [minutes]) => (0, [0, *minutes, 0]),
        (None, [minutes, seconds]) => (0, [0, *minutes, *seconds]),
        (None, [hours, minutes, seconds]) => (0, [*hours, *minutes, *seconds]),
        _ => return None,
    };
    let terms = [(days, 86_400), (hours, 3600), (minutes, 60), (seconds, 1)];
    terms.iter().try_fold(0_u64, |sum, (number, unit)| sum.checked_add(number.checked_mul(*unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_read_as_slurm_reads_them() {
        let seconds = |text: &str| text.parse::<WallTime>().ok().map(|time| time.0.as_secs());
        let known =
            [("4:00:00", 14_400), ("90", 5400), ("2:30", 150), ("1-12", 129_600), ("1-0:0:1", 86_401), ("4h", 14_400)];
        for (text, expected) in known {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for wrong in ["", "0", "4:", "1-", "a", "1:2:3:4", "99999999999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_number_needs_its_unit() {
        let seconds = |text: &str| text.parse::<Span>().ok().map(|span| span.0.as_secs());
        assert_eq!(seconds("30d"), Some(30 * 86_400));
        assert_eq!(seconds("90 s"), Some(90));
        for wrong in ["", "30", "d", "-1d", "0d", "1.5h", "1y", "99999999999999999w"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
