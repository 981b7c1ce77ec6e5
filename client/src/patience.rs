//! The law of repeated calls: which errors may pass, and after which pauses a call is made again.

use std::time::Duration;

use backon::ExponentialBuilder;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::Error;

/// A coordinator may ask for patience, but not for more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How a call is repeated of which the error may pass. A coordinator's `Retry-After` takes the place of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How often the call is repeated at most; `None` for as often as it takes.
    pub most: Option<usize>,
    /// Nobody looks on. So a coordinator is waited for that was never there, or that fails (any 5xx); and pauses are longer by a random
    /// part, up to twice as long, so that callers who lost the same coordinator don't all come back at once.
    pub unattended: bool,
}

impl Patience {
    /// A call is made once.
    pub const NONE: Self = Self { first: Duration::ZERO, longest: Duration::ZERO, most: Some(0), unattended: false };

    /// Of a submission: under its key it is one submission, however often it arrives.
    pub(crate) const SUBMISSION: Self =
        Self { first: Duration::from_millis(250), longest: Duration::from_secs(4), most: Some(5), unattended: false };

    /// The pauses.
    pub fn pauses(self) -> ExponentialBuilder {
        let pauses = ExponentialBuilder::new().with_min_delay(self.first).with_max_delay(self.longest);
        let pauses = match self.most {
            Some(most) => pauses.with_max_times(most),
            None => pauses.without_max_times(),
        };
        if self.unattended { pauses.with_jitter() } else { pauses }
    }

    /// Whether the same call may get another answer than this error soon: there was none, or one that holds only for now.
    pub fn covers(self, error: &Error) -> bool {
        match error {
            Error::Unreachable { .. } | Error::Broken { .. } | Error::Unexpected { .. } => true,
            Error::Refused(refusal) => match refusal.status {
                408 | 429 | 503 => true,
                500.. => self.unattended,
                _ => false,
            },
            Error::Unreadable { .. } | Error::Page { .. } => false,
        }
    }
}

/// For how long the coordinator asks to wait. Seconds only: no date is of use between clocks that differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder as _;

    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_between_those_that_nobody_looks_on() {
        let [first, longest] = [Duration::from_millis(200), Duration::from_secs(3)];
        let patience = Patience { first, longest, most: None, unattended: true };
        let pauses = || patience.pauses().build().take(100).collect::<Vec<_>>();
        let (one, other) = (pauses(), pauses());
        assert_eq!(one.len(), 100);
        assert!((first..=2 * first).contains(&one[0]), "{one:?}");
        assert!(one[10..].iter().all(|pause| (longest..=2 * longest).contains(pause)), "{one:?}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_submission_is_repeated_five_times() {
        let pauses: Vec<_> = Patience::SUBMISSION.pauses().build().map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000]);
        assert_eq!(Patience::NONE.pauses().build().next(), None);
    }

    #[test]
    fn the_coordinators_patience_has_a_limit() {
        let header = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(header("3"), Some(Duration::from_secs(3)));
        assert_eq!(header("86400"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(header("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
