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

#[cfg(test)]
mod tests {
    use super::*;

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
