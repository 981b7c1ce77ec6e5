//! How long a trainer may say nothing.
//!
//! A trainer that works says so at least every ten seconds, or after each step where steps take longer. One that is stuck (stopped, or
//! waiting for a file system that is gone) says nothing, and would keep its job for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use promptfield_core::job::spec::{CompactSpec, JobSpec};
use promptfield_core::method::Methods;
use promptfield_core::scheduler::shape;

/// What is never too long, however quick a job's steps are.
const LEAST: Duration = Duration::from_mins(10);
/// The limit for a job whose like hasn't been seen here.
const UNKNOWN: Duration = Duration::from_mins(30);
/// So many steps' time is too long.
const STEPS: u32 = 20;
/// Of each shape, so many steps are remembered.
const REMEMBERED: usize = 99;

/// How long the steps of jobs take here, by their shapes.
#[derive(Debug, Default)]
pub(crate) struct Steps(Mutex<HashMap<String, VecDeque<Duration>>>);

impl Steps {
    /// Notes how long a step of a job took.
    pub(crate) fn note(&self, shape: &str, took: Duration) {
        let mut shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = shapes.entry(shape.to_owned()).or_default();
        if steps.len() == REMEMBERED {
            steps.pop_front();
        }
        steps.push_back(took);
    }

    /// How long a trainer that has a job of a shape may be silent.
    pub(crate) fn limit(&self, shape: &str) -> Duration {
        let shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(steps) = shapes.get(shape) else { return UNKNOWN };
        let mut steps: Vec<Duration> = steps.iter().copied().collect();
        let middle = steps.len() / 2;
        let median = *steps.select_nth_unstable(middle).1;
        LEAST.max(median * STEPS)
    }
}

/// The shape of a job, by which its steps are known.
pub(crate) fn shape_of(spec: &JobSpec) -> String {
    shape(&CompactSpec::from(spec.clone()).recipe, spec.stage, Methods::built_in())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_twenty_steps_and_ten_minutes_at_least() {
        let steps = Steps::default();
        assert_eq!(steps.limit("a"), UNKNOWN);
        for seconds in [1, 1, 400] {
            steps.note("a", Duration::from_secs(seconds));
        }
        assert_eq!(steps.limit("a"), LEAST);
        for _ in 0..REMEMBERED {
            steps.note("a", Duration::from_mins(1));
        }
        assert_eq!((steps.limit("a"), steps.limit("b")), (Duration::from_mins(20), UNKNOWN));
    }
}
