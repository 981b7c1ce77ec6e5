//! Jobs are computed again: because somebody wants it, because what they rest on has changed, or because a checkpoint is lost.

use super::*;
use crate::job::basis::Changed;

const TRAINING: JobId = JobId(1);
const FIRST: JobId = JobId(2);
const SECOND: JobId = JobId(3);

/// A training with two tests, on other data sets.
const TWO_TESTS: &str =
    "protocol = \"cross_dataset\"\nmethods = [\"alignednorm\"]\ndatasets = [\"dtd\", \"eurosat\"]\nseeds = [1]";

fn two_tests(name: &str) -> Command {
    let known = Known::built_in();
    let text = format!("name = \"{name}\"\nbackbone = \"ViT-B/16\"\n{TWO_TESTS}");
    let experiment = Experiment::from_toml(&text, &known).unwrap();
    let jobs = matrix::expand(&experiment, &known).unwrap();
    Command::Submit { experiment: Box::new(experiment), jobs, by: None }
}

fn again(jobs: &[JobId]) -> Command {
    Command::RerunJobs { jobs: jobs.to_vec(), shared: false }
}

fn all_again(experiment: u64, which: RerunWhich, shared: bool) -> Command {
    Command::RerunExperiment { experiment: ExperimentId(experiment), which, shared }
}

/// Carries a command out. A coordinator that starts again right after it knows all that this one does.
fn does(world: &mut World, command: Command) -> Result<Reply, Rejection> {
    let reply = world.apply(command);
    let restored = world.restored();
    assert_eq!(restored.essence(), world.scheduler.essence());
    for entry in world.scheduler.jobs.iter() {
        let job = entry.record.id;
        assert_eq!(restored.why_stale(job), world.scheduler.why_stale(job));
        assert_eq!(restored.is_afresh(job), world.scheduler.is_afresh(job));
    }
    reply
}

fn leases(world: &mut World, worker: WorkerId, slots: usize) -> Vec<Grant> {
    match does(world, Command::Lease { worker, slots }) {
        Ok(Reply::Granted(grants)) => grants,
        other => panic!("{other:?}"),
    }
}

fn states<const N: usize>(world: &World, jobs: [JobId; N]) -> [JobStateName; N] {
    jobs.map(|job| world.state(job))
}

fn is_stale(reply: &Result<Reply, Rejection>) -> bool {
    matches!(reply, Err(Rejection::Stale { .. }))
}

/// Why a result is stale.
fn why(world: &World, job: JobId) -> Option<Changed> {
    world.scheduler.why_stale(job).map(|stale| stale.changed)
}

/// One worker brings everything to its end, on the same basis.
fn finish(world: &mut World, worker: WorkerId, on: On) -> Vec<Grant> {
    let mut all = Vec::new();
    loop {
        let grants = leases(world, worker, 9);
        if grants.is_empty() {
            return all;
        }
        for grant in grants {
            does(world, completes_on(&grant, on)).unwrap();
            all.push(grant);
        }
    }
}

/// A world in which everything has a result.
fn finished(command: Command, on: On) -> (World, WorkerId) {
    let mut world = World::new();
    world.submit(command);
    let worker = world.register("w");
    finish(&mut world, worker, on);
    (world, worker)
}

#[test]
fn a_training_that_is_computed_again_takes_its_tests_along() {
    let mut world = World::new();
    let id = world.submit(two_tests("x")).experiment;
    let worker = world.register("w");
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, completes_on(&train, (1, 1, 1))).unwrap();
    let tests = leases(&mut world, worker, 2);
    assert!(!train.afresh && tests.iter().all(|grant| !grant.afresh));
    does(&mut world, completes(&tests[0])).unwrap();
    does(&mut world, Command::Progress { held: held(&tests[1]), progress: Some(Progress::default()) }).unwrap();
    let jobs = [train.job, tests[0].job, tests[1].job];

    assert_eq!(does(&mut world, again(&[train.job])), Ok(Reply::Changed(2)), "those that had a result");
    assert_eq!(states(&world, jobs), [JobStateName::Queued, JobStateName::Blocked, JobStateName::Blocked]);
    let (_, counts) = world.scheduler.experiment(id).unwrap();
    assert_eq!((counts.queued, counts.blocked, counts.total()), (1, 2, 3));
    assert!(world.database.results.is_empty());
    assert_eq!(world.database.superseded, BTreeMap::from([(jobs[0], 1), (jobs[1], 1)]));
    assert!(world.scheduler.workers[&worker].held.is_empty());
    // Nothing that was reported or is reported late of the attempts before counts.
    for grant in tests.iter().chain([&train]) {
        assert!(is_stale(&does(&mut world, Command::Progress { held: held(grant), progress: None })));
        assert!(is_stale(&does(&mut world, completes(grant))));
        assert!(is_stale(&does(&mut world, fails(grant, FailureClass::TrainerDied))));
        assert!(is_stale(&does(&mut world, Command::Release { held: held(grant), unfinished: Some("a".into()) })));
    }

    let anew = leases(&mut world, worker, 5);
    assert_eq!(anew.iter().map(|grant| (grant.job, grant.afresh)).collect::<Vec<_>>(), [(train.job, true)]);
    assert!(is_stale(&does(&mut world, completes(&train))));
    does(&mut world, completes_on(&anew[0], (1, 1, 1))).unwrap();
    assert_eq!(does(&mut world, completes(&anew[0])), Ok(Reply::Done), "the same again");
    // The test that had no result yet may have completed its folder all the same, on the checkpoint before.
    let tests = leases(&mut world, worker, 5);
    assert_eq!(tests.iter().map(|grant| grant.afresh).collect::<Vec<_>>(), [true, true]);
    for grant in &tests {
        does(&mut world, completes(grant)).unwrap();
    }
    assert!(jobs.iter().all(|job| world.database.results.get(job) == Some(&1)));
    assert_eq!(world.database.superseded.len(), 2);
}

#[test]
fn an_experiment_that_is_computed_again_ends_again() {
    let (mut world, worker) = finished(two_tests("x"), (1, 1, 1));
    assert_eq!(does(&mut world, all_again(1, RerunWhich::All, false)), Ok(Reply::Changed(3)));
    let mut ends = Vec::new();
    for _ in 0..2 {
        for grant in leases(&mut world, worker, 5) {
            let (changes, reply) = world.scheduler.apply(completes(&grant), world.now);
            reply.unwrap();
            ends.extend(changes.iter().filter_map(|change| match change {
                Change::Event(Event { kind: EventKind::ExperimentFinished { jobs, done, .. }, .. }) => {
                    Some((*jobs, *done))
                }
                _ => None,
            }));
            world.database.write(changes);
        }
    }
    assert_eq!(ends, [(3, 3)]);
}

#[test]
fn a_test_is_computed_again_on_the_checkpoint_that_is_there() {
    let (mut world, worker) = finished(two_tests("x"), (1, 1, 1));
    assert_eq!(does(&mut world, again(&[SECOND, SECOND])), Ok(Reply::Changed(1)));
    let expected = [JobStateName::Completed, JobStateName::Completed, JobStateName::Queued];
    assert_eq!(states(&world, [TRAINING, FIRST, SECOND]), expected);
    let grants = leases(&mut world, worker, 5);
    assert_eq!(grants.iter().map(|grant| (grant.job, grant.afresh)).collect::<Vec<_>>(), [(SECOND, true)]);
    // What is given back or fails is still to be computed anew.
    does(&mut world, Command::Release { held: held(&grants[0]), unfinished: None }).unwrap();
    let grants = leases(&mut world, worker, 5);
    does(&mut world, fails(&grants[0], FailureClass::BadData)).unwrap();
    does(&mut world, Command::RetryJobs(vec![SECOND])).unwrap();
    let grants = leases(&mut world, worker, 5);
    assert!(grants[0].afresh);
    does(&mut world, completes(&grants[0])).unwrap();
    assert_eq!(world.database.superseded, BTreeMap::from([(SECOND, 1)]));
}

#[test]
fn only_what_has_a_result_is_computed_again() {
    let mut world = World::new();
    world.submit(two_tests("x"));
    let refused = Rejection::NoResult { job: TRAINING, state: JobStateName::Queued };
    assert_eq!(refused.to_string(), "job 1 is queued: only a job with a result can be computed again");
    assert_eq!(does(&mut world, again(&[TRAINING])), Err(refused));
    assert_eq!(does(&mut world, again(&[JobId(9)])), Err(Rejection::NoJob(JobId(9))));
    assert_eq!(does(&mut world, all_again(9, RerunWhich::All, true)), Err(Rejection::NoExperiment(ExperimentId(9))));
    let worker = world.register("w");
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, completes(&train)).unwrap();
    let refused = Rejection::NoResult { job: FIRST, state: JobStateName::Queued };
    assert_eq!(does(&mut world, again(&[TRAINING, FIRST])), Err(refused), "all of them or none");
    assert_eq!(world.state(TRAINING), JobStateName::Completed);
    assert_eq!(does(&mut world, again(&[])), Ok(Reply::Changed(0)));
}

#[test]
fn what_other_experiments_show_is_computed_again_only_if_that_is_meant() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    world.submit(experiment("y", "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]"));
    world.submit(experiment("z", "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [2]"));
    let worker = world.register("w");
    finish(&mut world, worker, (1, 1, 1));
    let shared = |experiments: &[u64]| {
        let experiments = experiments.iter().copied().map(ExperimentId).collect();
        Err(Rejection::Shared { job: TRAINING, experiments })
    };
    assert_eq!(does(&mut world, again(&[TRAINING])), shared(&[1, 2]));
    assert_eq!(does(&mut world, again(&[FIRST, TRAINING])), shared(&[1, 2]));
    assert_eq!(does(&mut world, all_again(1, RerunWhich::All, false)), shared(&[2]));
    assert_eq!(does(&mut world, all_again(2, RerunWhich::All, false)), shared(&[1, 3]));
    let words = does(&mut world, all_again(2, RerunWhich::All, false)).unwrap_err().to_string();
    assert!(words.contains("is shared with experiment 1, experiment 3:"), "{words}");
    // Nobody looks at what is cancelled.
    does(&mut world, Command::CancelExperiment(ExperimentId(2))).unwrap();
    assert_eq!(does(&mut world, all_again(2, RerunWhich::All, false)), shared(&[1, 3]));
    assert_eq!(does(&mut world, again(&[TRAINING])), Ok(Reply::Changed(2)));
    finish(&mut world, worker, (1, 1, 1));
    assert_eq!(does(&mut world, all_again(1, RerunWhich::All, false)), Ok(Reply::Changed(2)));
    finish(&mut world, worker, (1, 1, 1));
    assert_eq!(does(&mut world, all_again(2, RerunWhich::Stale, true)), Ok(Reply::Changed(0)));
    assert!(world.scheduler.experiment(ExperimentId(2)).unwrap().0.cancelled, "nothing was to be done");
    assert_eq!(does(&mut world, all_again(2, RerunWhich::All, true)), Ok(Reply::Changed(4)));
    assert!(!world.scheduler.experiment(ExperimentId(2)).unwrap().0.cancelled, "somebody wants it now");
    let counts = [1, 2, 3].map(|id| world.scheduler.experiment(ExperimentId(id)).unwrap().1.open());
    assert_eq!(counts, [2, 4, 2]);
}

#[test]
fn what_is_to_be_computed_again_can_be_cancelled_and_retried() {
    let (mut world, worker) = finished(two_tests("x"), (1, 1, 1));
    does(&mut world, again(&[TRAINING])).unwrap();
    assert_eq!(does(&mut world, Command::CancelJobs(vec![TRAINING])), Ok(Reply::Changed(3)));
    let refused = Rejection::NoResult { job: TRAINING, state: JobStateName::Cancelled };
    assert_eq!(does(&mut world, again(&[TRAINING])), Err(refused));
    assert_eq!(does(&mut world, Command::RetryJobs(vec![FIRST])), Ok(Reply::Changed(2)), "with what it needs");
    assert_eq!(
        states(&world, [TRAINING, FIRST, SECOND]),
        [JobStateName::Queued, JobStateName::Blocked, JobStateName::Cancelled]
    );
    let train = leases(&mut world, worker, 1).remove(0);
    assert!(train.afresh);
    does(&mut world, fails(&train, FailureClass::Bug)).unwrap();
    assert_eq!(world.state(FIRST), JobStateName::Failed);
    does(&mut world, Command::RetryExperiment(ExperimentId(1))).unwrap();
    assert!(finish(&mut world, worker, (1, 1, 1)).iter().all(|grant| grant.afresh));
    assert_eq!(world.database.results.len(), 3);
}

#[test]
fn a_test_that_failed_stays_failed_until_somebody_retries_it() {
    let mut world = World::new();
    world.submit(two_tests("x"));
    let worker = world.register("w");
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, completes(&train)).unwrap();
    let test = leases(&mut world, worker, 1).remove(0);
    does(&mut world, fails(&test, FailureClass::Bug)).unwrap();
    assert_eq!(does(&mut world, again(&[TRAINING])), Ok(Reply::Changed(1)));
    assert_eq!(world.state(test.job), JobStateName::Failed);
    does(&mut world, Command::RetryJobs(vec![test.job])).unwrap();
    assert_eq!(world.state(test.job), JobStateName::Blocked);
    assert!(finish(&mut world, worker, (1, 1, 1)).iter().all(|grant| grant.afresh));
}

#[test]
fn an_attempt_that_lost_its_lease_is_over_too() {
    let mut world = World::new();
    world.submit(two_tests("x"));
    let worker = world.register("w");
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, completes(&train)).unwrap();
    let test = leases(&mut world, worker, 1).remove(0);
    world.pass(40_000);
    assert_eq!(world.state(test.job), JobStateName::Queued);
    does(&mut world, again(&[TRAINING])).unwrap();
    assert!(is_stale(&does(&mut world, completes(&test))), "nobody else has begun, and still it doesn't count");
    assert!(is_stale(&does(&mut world, Command::Progress { held: held(&test), progress: None })));
}

#[test]
fn a_split_that_is_another_makes_stale_and_only_that_is_computed_again() {
    let text = "methods = [\"alignednorm\"]\ndatasets = [\"dtd\", \"eurosat\"]\nseeds = [1]";
    let (mut world, worker) = finished(experiment("x", text), (1, 1, 1));
    let jobs: Vec<(JobId, String, Stage)> = world
        .scheduler
        .jobs_of(ExperimentId(1))
        .map(|(job, _)| (job.id, job.spec.recipe.dataset.clone(), job.spec.stage))
        .collect();
    let of = |dataset: &str, stage| jobs.iter().find(|job| job.1 == dataset && job.2 == stage).unwrap().0;
    let (train, test) = (of("dtd", Stage::Train), of("dtd", Stage::Test));
    assert_eq!(world.scheduler.stale_of(ExperimentId(1)), []);
    world.pass(1_000);
    does(&mut world, looks(train.0, 2, 1)).unwrap();
    let stale = world.scheduler.why_stale(train).unwrap();
    assert_eq!(stale.changed, Changed::Split);
    assert_eq!(stale.because, "the split of `dtd` was 010101010101, and is 020202020202 now");
    let stale = world.scheduler.why_stale(test).unwrap();
    assert_eq!(stale.changed, Changed::Training);
    let expected =
        format!("of its training, job {train}, the split of `dtd` was 010101010101, and is 020202020202 now");
    assert_eq!(stale.because, expected);
    let because = world.scheduler.explain(test, world.now).unwrap().because;
    assert!(because.contains("; it is stale: of its training"), "{because}");
    assert_eq!(world.scheduler.stale_of(ExperimentId(1)).len(), 2, "the other data set is what it was");

    assert_eq!(does(&mut world, all_again(1, RerunWhich::Stale, false)), Ok(Reply::Changed(2)));
    assert_eq!(world.scheduler.stale_of(ExperimentId(1)), [], "without a result nothing is stale");
    let done = finish(&mut world, worker, (1, 2, 1));
    assert_eq!(done.iter().map(|grant| grant.job).collect::<Vec<_>>(), [train, test]);
    assert_eq!(why(&world, train), None);
    // It was read for the test too, whose draw says that it's of other classes.
    assert_eq!(why(&world, test), None);
    // What was is again.
    world.pass(1_000);
    does(&mut world, looks(train.0, 1, 1)).unwrap();
    assert_eq!(why(&world, train), Some(Changed::Split));
    assert_eq!(does(&mut world, looks(99, 1, 1)), Err(Rejection::NoJob(JobId(99))));
}

#[test]
fn a_test_list_is_that_of_every_draw_of_the_same_classes() {
    let text = "methods = [\"alignednorm\", \"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]\nshots = [4, 16]";
    let (mut world, _) = finished(experiment("x", text), (1, 1, 1));
    let of = |world: &World, stage| -> Vec<JobId> {
        let jobs = world.scheduler.jobs.iter().map(|entry| &entry.record);
        jobs.filter(|job| job.spec.stage == stage).map(|job| job.id).collect()
    };
    let (trains, tests) = (of(&world, Stage::Train), of(&world, Stage::Test));
    assert_eq!((trains.len(), tests.len()), (8, 8));
    world.pass(1_000);
    does(&mut world, looks(tests[3].0, 1, 2)).unwrap();
    assert!(
        tests.iter().all(|job| why(&world, *job) == Some(Changed::TestList)),
        "whatever the method, shots and seed"
    );
    assert!(trains.iter().all(|job| why(&world, *job).is_none()), "other classes");
    let because = world.scheduler.why_stale(tests[0]).unwrap().because;
    assert_eq!(because, "the test list of `dtd` was 010101010101, and is 020202020202 now");
    // Another draw is read later, and has what was before: the latest reading counts, also if its draw hasn't changed.
    world.pass(1_000);
    does(&mut world, looks(tests[0].0, 1, 1)).unwrap();
    assert_eq!(why(&world, tests[5]), None);
    assert_eq!(world.restored().why_stale(tests[5]), None);
}

#[test]
fn a_test_list_that_a_manifest_does_not_say_follows_from_its_split() {
    let (mut world, _) = finished(experiment("x", ONE_SEED), (1, 1, 0));
    assert_eq!(why(&world, TRAINING), None);
    assert_eq!(world.scheduler.reading(TRAINING), None, "half of a reading is none");
    does(&mut world, looks(1, 1, 7)).unwrap();
    assert_eq!(why(&world, TRAINING), None);
    // Another seed of the same classes, with another test list.
    world.submit(experiment("y", "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [2]"));
    world.pass(1_000);
    does(&mut world, looks(3, 5, 8)).unwrap();
    assert_eq!(why(&world, TRAINING), Some(Changed::TestList));
    does(&mut world, looks(1, 2, 8)).unwrap();
    assert_eq!(why(&world, TRAINING), Some(Changed::Split), "what its own test list was isn't known any more");
}

#[test]
fn a_late_report_of_an_older_reading_turns_nothing_back() {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=1, "")));
    world.submit(experiment("y", &seeds("y", "mmrl", 1..=1, "")));
    let worker = world.register("w");
    let grants = leases(&mut world, worker, 2);
    world.pass(1_000);
    does(&mut world, looks(grants[0].job.0, 2, 2)).unwrap();
    world.pass(1_000);
    // Both have the same draw, and read it before somebody looked.
    does(&mut world, completes_on(&grants[0], (1, 1, 1))).unwrap();
    assert_eq!(world.scheduler.reading(grants[0].job).unwrap().split, sha256(2));
    assert_eq!(why(&world, grants[0].job), Some(Changed::TestList));
    // A worker that was away comes back much later, with what it read long ago.
    world.pass(40_000);
    assert_eq!(world.state(grants[1].job), JobStateName::Queued);
    does(&mut world, Command::Progress { held: held(&grants[1]), progress: None }).unwrap();
    does(&mut world, completes_on(&grants[1], (1, 1, 1))).unwrap();
    assert_eq!(world.scheduler.reading(grants[0].job).unwrap().split, sha256(2));
    assert_eq!(why(&world, grants[1].job), Some(Changed::TestList));
}

#[test]
fn a_restart_forgets_not_when_something_was_read() {
    let (mut world, worker) = finished(experiment("x", ONE_SEED), (1, 1, 1));
    does(&mut world, again(&[TRAINING])).unwrap();
    world.pass(1_000);
    let early = leases(&mut world, worker, 1).remove(0);
    world.pass(1_000);
    // The same as before, and later than the attempt began.
    does(&mut world, looks(1, 1, 1)).unwrap();
    world.scheduler = world.restored();
    does(&mut world, completes_on(&early, (1, 2, 2))).unwrap();
    assert_eq!(world.scheduler.reading(TRAINING).unwrap().split, sha256(1));
    assert_eq!(why(&world, TRAINING), Some(Changed::TestList));
}

#[test]
fn a_folder_that_was_adopted_says_what_was_read_and_one_of_another_tool_does_not() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let worker = world.register("w");
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, reports(&train, (1, 3, 3), true)).unwrap();
    assert_eq!(world.state(TRAINING), JobStateName::Skipped);
    assert_eq!(world.scheduler.reading(TRAINING).unwrap().split, sha256(3));
    assert!(!world.scheduler.is_foreign(TRAINING));
    let test = leases(&mut world, worker, 1).remove(0);
    let foreign = Outcome { result: Some(RESULT), adopted: true, manifest: None };
    let command =
        Command::Complete { held: held(&test), outcome: Box::new(foreign), evaluation: None, memory_mib: None };
    does(&mut world, command).unwrap();
    assert!(world.scheduler.is_foreign(FIRST));
    assert_eq!(world.scheduler.reading(FIRST), None);
    does(&mut world, looks(2, 9, 9)).unwrap();
    assert_eq!(why(&world, FIRST), None, "nobody knows what it rests on");
    assert_eq!(does(&mut world, again(&[TRAINING])), Ok(Reply::Changed(2)));
    assert!(!world.scheduler.is_foreign(FIRST));
}

fn with_weights(name: &str, digit: u8) -> WorkerDescription {
    WorkerDescription { backbone_sha256: BTreeMap::from([("ViT-B/16".into(), sha256(digit))]), ..worker(name) }
}

#[test]
fn the_first_result_pins_its_backbone_and_other_weights_get_nothing() {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=4, "")));
    let other = world.register_as(with_weights("other", 2));
    let right = world.register_as(with_weights("right", 1));
    let kinds = [other, right].map(|worker| world.scheduler.kind_of(worker).unwrap());
    assert_eq!(kinds[0], kinds[1], "nothing is pinned");
    let early = leases(&mut world, other, 1).remove(0);
    let grant = leases(&mut world, right, 1).remove(0);
    assert_eq!(grant.backbone_sha256, None);
    does(&mut world, completes_on(&grant, (1, 1, 1))).unwrap();
    assert_eq!(world.scheduler.pins(), &BTreeMap::from([("ViT-B/16".to_owned(), sha256(1))]));
    assert_eq!(leases(&mut world, other, 1), []);
    assert_ne!(world.scheduler.kind_of(other), world.scheduler.kind_of(right));
    // A later result on other weights is taken, doesn't pin, and is stale at once.
    does(&mut world, completes_on(&early, (2, 1, 1))).unwrap();
    assert_eq!(why(&world, early.job), Some(Changed::Backbone));
    let because = world.scheduler.why_stale(early.job).unwrap().because;
    assert_eq!(because, "the backbone `ViT-B/16` was 020202020202, and it is pinned to 010101010101");

    does(&mut world, Command::Leave { worker: right }).unwrap();
    let waiting = world.scheduler.jobs.iter().find(|job| job.record.state.name() == JobStateName::Queued).unwrap();
    let because = world.scheduler.explain(waiting.record.id, world.now).unwrap().because;
    let expected = "its results rest on the backbone `ViT-B/16` as 010101010101, and none of the 1 connected workers has \
                    that: worker `other` has 020202020202";
    assert_eq!(because, expected);
    // Whose weights aren't known is asked, and told what they should be.
    let unknown = world.register("unknown");
    assert_eq!(leases(&mut world, unknown, 1)[0].backbone_sha256, Some(sha256(1)));

    // A person decides otherwise.
    does(&mut world, pins("ViT-B/16", 2)).unwrap();
    assert_eq!(why(&world, grant.job), Some(Changed::Backbone));
    assert_eq!(why(&world, early.job), None);
    assert_eq!(leases(&mut world, other, 1).len(), 1);
    does(&mut world, pins("ViT-B/16", 2)).unwrap();
    assert_eq!(world.database.rows.pins.len(), 1);
}

#[test]
fn a_checkpoint_that_is_lost_is_trained_again_and_its_test_runs_then() {
    let mut world = World::new();
    world.submit(two_tests("x"));
    let worker = world.register("w");
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, completes(&train)).unwrap();
    let tests = leases(&mut world, worker, 2);
    does(&mut world, completes(&tests[0])).unwrap();
    does(&mut world, lacks_checkpoint(&tests[1])).unwrap();
    let jobs = [train.job, tests[0].job, tests[1].job];
    assert_eq!(states(&world, jobs), [JobStateName::Queued, JobStateName::Blocked, JobStateName::Blocked]);
    assert_eq!(world.scheduler.job(tests[1].job).unwrap().failures, 1);
    assert!(is_stale(&does(&mut world, completes(&tests[1]))));
    let again = finish(&mut world, worker, (1, 1, 1));
    assert_eq!(again.len(), 3);
    assert!(again.iter().all(|grant| grant.afresh));
    assert_eq!(states(&world, jobs), [JobStateName::Completed; 3]);
    // A training has no checkpoint to lack.
    does(&mut world, Command::RerunJobs { jobs: vec![TRAINING], shared: false }).unwrap();
    let train = leases(&mut world, worker, 1).remove(0);
    does(&mut world, lacks_checkpoint(&train)).unwrap();
    assert_eq!(world.state(TRAINING), JobStateName::Failed);
}

#[test]
fn tests_that_lack_their_checkpoint_again_and_again_fail_in_the_end() {
    let mut world = World::new();
    world.submit(two_tests("x"));
    let worker = world.register("w");
    let mut trainings = 0;
    // Now one of them says it first, now the other.
    for round in 0.. {
        assert!(round < 20, "it goes on for ever");
        let grants = leases(&mut world, worker, 5);
        if grants.is_empty() {
            break;
        }
        let place = round % grants.len();
        if grants[0].spec.stage == Stage::Train {
            trainings += 1;
            does(&mut world, completes(&grants[0])).unwrap();
        } else {
            does(&mut world, lacks_checkpoint(&grants[place])).unwrap();
            for (other, grant) in grants.iter().enumerate().filter(|(other, _)| *other != place) {
                let reply = does(&mut world, lacks_checkpoint(grant));
                assert!(reply.is_ok() || is_stale(&reply), "{other}");
            }
        }
    }
    assert_eq!(
        states(&world, [TRAINING, FIRST, SECOND]),
        [JobStateName::Completed, JobStateName::Failed, JobStateName::Failed]
    );
    assert_eq!(trainings, 9, "the first one, and four for each test");
    let because = world.scheduler.explain(FIRST, world.now).unwrap().because;
    assert_eq!(because, "failed 5 times, the last time because: no checkpoint");
    // Somebody who retries has all of it tried again.
    does(&mut world, Command::RetryJobs(vec![FIRST])).unwrap();
    let test = leases(&mut world, worker, 5).remove(0);
    does(&mut world, lacks_checkpoint(&test)).unwrap();
    assert_eq!(states(&world, [TRAINING, FIRST]), [JobStateName::Queued, JobStateName::Blocked]);
}

#[test]
fn a_worker_with_other_weights_gives_the_job_back_and_is_not_asked_again() {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=3, "")));
    does(&mut world, pins("ViT-B/16", 1)).unwrap();
    let wrong = world.register("wrong");
    let grant = leases(&mut world, wrong, 1).remove(0);
    does(&mut world, lacks_backbone(&grant, 2)).unwrap();
    let job = world.scheduler.job(grant.job).unwrap();
    assert_eq!((job.state.name(), job.failures), (JobStateName::Queued, 0));
    assert!(is_stale(&does(&mut world, completes(&grant))));
    assert_eq!(leases(&mut world, wrong, 1), []);
    assert!(world.scheduler.explain(grant.job, world.now).unwrap().because.contains("worker `wrong` has 020202020202"));
    world.scheduler = world.restored();
    assert_eq!(leases(&mut world, wrong, 1), [], "that is remembered");
    let right = world.register("right");
    assert_eq!(leases(&mut world, right, 1)[0].job, grant.job);
}

#[test]
fn weights_that_are_the_right_ones_after_all_are_tried_again_a_few_times() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    does(&mut world, pins("ViT-B/16", 1)).unwrap();
    let worker = world.register("w");
    let grant = leases(&mut world, worker, 1).remove(0);
    // Meanwhile somebody pins what this worker has.
    does(&mut world, pins("ViT-B/16", 2)).unwrap();
    does(&mut world, lacks_backbone(&grant, 2)).unwrap();
    for failures in 1..5 {
        assert_eq!(world.scheduler.job(grant.job).unwrap().failures, failures);
        world.pass(10_000);
        let grant = leases(&mut world, worker, 1).remove(0);
        does(&mut world, lacks_backbone(&grant, 2)).unwrap();
    }
    assert_eq!(world.state(grant.job), JobStateName::Failed);
    let because = world.scheduler.explain(grant.job, world.now).unwrap().because;
    assert_eq!(because, "failed 5 times, the last time because: other weights");
}
