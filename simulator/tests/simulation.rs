//! The simulation finds what is wrong, and nothing else.

use promptfield_simulator::{Flaw, Settings, Size, Talk, Violation, World, simulate};

/// What the first seed that finds a flaw finds.
fn found(flaw: Flaw) -> Violation {
    let violation = (0..300).find_map(|seed| simulate(seed, Some(flaw), Talk::Silent).err());
    violation.unwrap_or_else(|| panic!("{flaw:?} was not found")).violation
}

#[test]
fn twenty_seeds_run_clean_and_much_goes_wrong_in_them() {
    let (mut restores, mut blows, mut done, mut spared, mut superseded) = (0, 0, 0, 0, 0);
    let (mut faults, mut uncounted) = (0, 0);
    for seed in 0..20 {
        let summary = simulate(seed, None, Talk::Silent).unwrap_or_else(|found| panic!("seed {seed}: {found}"));
        assert_eq!(summary.counts.open(), 0, "seed {seed}");
        restores += summary.restores;
        blows += summary.blows;
        spared += summary.spared;
        superseded += summary.superseded;
        faults += summary.faults;
        uncounted += summary.uncounted;
        done += summary.counts.done();
    }
    assert!(restores > 50 && blows > 100 && done > 100, "{restores} restarts, {blows} blows, {done} jobs done");
    assert!(spared > 5, "{spared} out-of-memory errors overlooked");
    assert!(faults > 10 && uncounted > 5, "{faults} faults of machines, {uncounted} uncounted losses");
    assert!(superseded > 50, "{superseded} results superseded");
}

#[test]
fn a_seed_is_a_run() {
    let run = |seed| simulate(seed, None, Talk::Silent).unwrap();
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).digest, run(4).digest);
}

#[test]
fn keeping_the_text_changes_nothing() {
    let digest = |talk| simulate(5, None, talk).unwrap().digest;
    assert_eq!(digest(Talk::Silent), digest(Talk::Keep(30)));
}

#[test]
fn a_large_world_comes_to_its_end_with_and_without_faults() {
    for faults in [false, true] {
        let size = Size::Large { jobs: 1_000, workers: 20 };
        let settings = Settings { seed: 1, size, faults, flaw: None, talk: Talk::Silent };
        let mut world = World::new(settings).unwrap();
        world.until_submitted().unwrap();
        assert_eq!(world.jobs(), 1_000);
        let counts = world.until_over().unwrap().counts;
        assert_eq!((counts.total(), counts.open()), (1_000, 0));
        assert_eq!(counts.done() == 1_000, !faults || counts.failed + counts.cancelled == 0);
    }
}

#[test]
fn a_violation_comes_with_what_led_to_it() {
    let found = (0..300).find_map(|seed| simulate(seed, Some(Flaw::RecordsTwice), Talk::Keep(30)).err()).unwrap();
    assert_eq!(found.history.len(), 30);
    assert!(found.history.iter().any(|line| line.contains("Complete")), "{:#?}", found.history);
}

#[test]
fn an_answer_before_the_commit_is_found() {
    let violation = found(Flaw::AnswersBeforeCommit);
    assert!(matches!(violation, Violation::SaidNotWritten { .. }), "{violation}");
}

#[test]
fn a_token_that_is_ignored_is_found() {
    let violation = found(Flaw::IgnoresTokens);
    assert!(matches!(violation, Violation::StaleAccepted { .. }), "{violation}");
}

#[test]
fn a_job_that_a_restart_forgets_is_found() {
    let violation = found(Flaw::ForgetsAJob);
    assert!(matches!(violation, Violation::JobLost { known: None, .. }), "{violation}");
}

#[test]
fn what_a_restart_forgets_of_memory_is_found() {
    let violation = found(Flaw::ForgetsWhatItLearned);
    assert!(matches!(violation, Violation::Diverged | Violation::TooMuch { .. }), "{violation}");
}

#[test]
fn what_a_restart_forgets_of_results_that_do_not_count_any_more_is_found() {
    let violation = found(Flaw::ForgetsWhatWasSuperseded);
    assert!(matches!(violation, Violation::Diverged | Violation::WrongAfresh { .. }), "{violation}");
}

#[test]
fn what_a_restart_forgets_of_the_data_sets_is_found() {
    let violation = found(Flaw::ForgetsWhatWasRead);
    assert!(matches!(violation, Violation::Diverged | Violation::WrongStale { .. }), "{violation}");
}

#[test]
fn a_superseded_result_that_is_dropped_is_found() {
    let violation = found(Flaw::DropsSuperseded);
    assert!(matches!(violation, Violation::ResultAndState { .. }), "{violation}");
}

#[test]
fn a_report_from_before_its_job_was_computed_again_is_found() {
    let violation = found(Flaw::HearsFromBefore);
    assert!(matches!(violation, Violation::StaleAccepted { .. }), "{violation}");
}

#[test]
fn a_result_that_is_recorded_twice_is_found() {
    let violation = found(Flaw::RecordsTwice);
    assert!(matches!(violation, Violation::SecondResult(_)), "{violation}");
}

#[test]
fn a_state_that_outlives_its_failed_commit_is_found() {
    let violation = found(Flaw::KeepsWhatWasNotWritten);
    let right = matches!(violation, Violation::Misfit(_) | Violation::StaleAccepted { .. } | Violation::Diverged);
    assert!(right, "{violation}");
}

#[test]
fn a_lease_that_ends_too_early_is_found() {
    let violation = found(Flaw::EndsLeasesEarly);
    assert!(matches!(violation, Violation::EndedEarly { .. }), "{violation}");
}

#[test]
fn time_that_never_passes_is_found() {
    let violation = found(Flaw::NeverTicks);
    assert!(matches!(violation, Violation::Diverged | Violation::Waits { .. }), "{violation}");
}

#[test]
fn a_job_that_nobody_gets_is_found() {
    let violation = found(Flaw::TurnsWorkersAway);
    assert!(matches!(violation, Violation::Waits { .. }), "{violation}");
}

#[test]
fn what_a_restart_forgets_of_machines_is_found() {
    let violation = found(Flaw::ForgetsFaults);
    assert!(matches!(violation, Violation::Diverged | Violation::GivenToUnable { .. }), "{violation}");
}

#[test]
fn a_machine_s_fault_that_is_counted_against_its_job_is_found() {
    let violation = found(Flaw::BlamesJobs);
    assert!(matches!(violation, Violation::WrongFailures { .. }), "{violation}");
}

#[test]
fn a_lost_worker_that_is_counted_though_it_got_further_is_found() {
    let violation = found(Flaw::CountsEveryLoss);
    assert!(matches!(violation, Violation::WrongFailures { .. }), "{violation}");
}
