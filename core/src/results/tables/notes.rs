//! What is to be known of a table's numbers, as sentences below it.

use std::collections::BTreeMap;

use crate::id::{ExperimentId, JobId};
use crate::job::basis::Stale;
use crate::job::outcome::LeftOut;

/// So many jobs are named in a sentence; the others are counted.
const MOST_NAMED: usize = 8;

/// The sentences. `stale` are an experiment's results that rest on something else than what holds today, `adopted` the jobs whose
/// folders another tool completed, `left_out` the classes without a training image, each with its data set.
pub fn notes(
    experiment: ExperimentId,
    stale: &[(JobId, &Stale)],
    adopted: &[JobId],
    left_out: &[(String, LeftOut)],
) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<JobId>> = BTreeMap::new();
    for (job, stale) in stale {
        by_reason.entry(stale.because.as_str()).or_default().push(*job);
    }
    let mut notes: Vec<String> =
        by_reason.into_iter().map(|(because, jobs)| format!("stale: {} ({because})", name(&jobs))).collect();
    if !stale.is_empty() {
        notes.push(format!("`promptfield rerun {experiment} --stale` computes what is stale again"));
    }
    if !adopted.is_empty() {
        notes.push(format!("adopted: {}, from folders that another tool completed", name(adopted)));
    }
    notes.extend(left_out.iter().map(|(dataset, LeftOut { class, images })| {
        format!("{dataset}: class `{class}` has no training image, and its {images} test images are left out")
    }));
    notes
}

/// `job 3`; `jobs 1, 2 and 7 more`.
fn name(jobs: &[JobId]) -> String {
    let plural = if jobs.len() == 1 { "job" } else { "jobs" };
    let named: Vec<String> = jobs.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = jobs.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{plural} {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::basis::Changed;

    #[test]
    fn results_that_are_stale_for_one_reason_share_a_sentence() {
        let [a, b] = ["a", "b"].map(|because| Stale { changed: Changed::Split, because: because.to_owned() });
        let all: Vec<_> = (1..=9).map(|job| (JobId(job), &a)).chain([(JobId(12), &b)]).collect();
        let left_out = [("icons".to_owned(), LeftOut { class: "star".to_owned(), images: 3 })];
        assert_eq!(
            notes(ExperimentId(4), &all, &[JobId(7)], &left_out),
            [
                "stale: jobs 1, 2, 3, 4, 5, 6, 7, 8 and 1 more (a)",
                "stale: job 12 (b)",
                "`promptfield rerun 4 --stale` computes what is stale again",
                "adopted: job 7, from folders that another tool completed",
                "icons: class `star` has no training image, and its 3 test images are left out",
            ]
        );
        assert!(notes(ExperimentId(4), &[], &[], &[]).is_empty());
    }
}
