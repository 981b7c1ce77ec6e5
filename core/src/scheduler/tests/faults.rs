//! A machine's fault is not its jobs': they go elsewhere, and fail only when nobody is left.

use super::*;
use crate::scheduler::machine_fault::FaultOf;
use crate::scheduler::pilot_records::{LauncherKind, PoolSettings};

const MINUTE: i64 = 60_000;

/// An attempt that fails by its machine, or finds its folder in another's hands.
pub(super) fn fails_by(grant: &Grant, which: usize) -> Command {
    let holder = "process 7 on h1".to_owned();
    let causes = [
        Cause::OutputRoot,
        Cause::Dataset,
        Cause::Backbone,
        Cause::Method,
        Cause::Job,
        Cause::FolderInUse { holder, host: Some("h1".into()) },
    ];
    let failure = Failure { class: FailureClass::Storage, reason: "no".into() };
    Command::Fail { held: held(grant), failure, cause: Some(causes[which % causes.len()].clone()) }
}

fn unable(grant: &Grant, cause: Cause, reason: &str) -> Command {
    let failure = Failure { class: FailureClass::Storage, reason: reason.into() };
    Command::Fail { held: held(grant), failure, cause: Some(cause) }
}

fn on(host: &str) -> WorkerDescription {
    WorkerDescription { host: host.into(), slots: 1, ..worker(host) }
}

const TWO_SETS: &str = "methods = [\"mmrl\"]\ndatasets = [\"dtd\", \"eurosat\"]\nseeds = [1, 2]";

fn dataset(grant: &Grant) -> &str {
    &grant.spec.recipe.dataset
}

#[test]
fn what_a_machine_lacks_goes_elsewhere_and_is_not_counted() {
    for (cause, left_there) in [
        (Cause::OutputRoot, 0),
        (Cause::Backbone, 0),
        (Cause::Method, 0),
        // Two of the four trainings are of the other data set.
        (Cause::Dataset, 2),
        (Cause::Job, 3),
    ] {
        let mut world = World::new();
        world.submit(experiment("x", TWO_SETS));
        let (sick, well) = (world.register_as(on("sick")), world.register_as(on("well")));
        let grant = world.lease(sick, 1).remove(0);
        world.apply(unable(&grant, cause.clone(), "it can't")).unwrap();
        let record = world.scheduler.job(grant.job).unwrap();
        assert_eq!((record.state.name(), record.failures), (JobStateName::Queued, 0), "{cause:?}");
        let taken = world.lease(sick, 4);
        assert_eq!(taken.len(), left_there, "{cause:?}");
        for grant in taken {
            world.apply(Command::Release { held: held(&grant), unfinished: None }).unwrap();
        }
        assert_eq!(world.lease(well, 4).len(), 4, "{cause:?}");
        assert!(world.scheduler.explain(grant.job, world.now).is_ok());
    }
}

#[test]
fn a_job_fails_when_the_last_machine_that_could_do_it_is_unable() {
    let mut world = World::new();
    world.submit(experiment("x", TWO_SETS));
    let (one, other) = (world.register_as(on("one")), world.register_as(on("other")));
    let first = world.lease(one, 1).remove(0);
    let sets = dataset(&first).to_owned();
    world.apply(unable(&first, Cause::Dataset, "no folder")).unwrap();
    let waits = world.scheduler.explain(first.job, world.now).unwrap().because;
    assert!(waits.contains("`one` can't use the data set"), "{waits}");
    let mut grants = world.lease(other, 4);
    let place = grants.iter().position(|grant| dataset(grant) == sets).unwrap();
    let second = grants.remove(place);
    for grant in grants {
        world.apply(Command::Release { held: held(&grant), unfinished: None }).unwrap();
    }
    world.apply(unable(&second, Cause::Dataset, "an empty folder")).unwrap();
    // Both jobs of that data set, and their tests; those of the other go on.
    let failed = world.scheduler.counts().failed;
    assert_eq!(failed, 4);
    let because = world.scheduler.explain(first.job, world.now).unwrap().because;
    assert_eq!(
        because,
        format!(
            "no machine here can do it: `one` can't use the data set `{sets}`: no folder; `other` can't use the data set `{sets}`: an \
             empty folder"
        )
    );
    assert_eq!((world.lease(one, 4).len(), world.lease(other, 4).len()), (2, 0));
}

#[test]
fn the_last_able_machine_that_goes_takes_hope_with_it() {
    for how in [
        |worker| Command::Drain { worker },
        |worker| Command::Leave { worker },
        |_| Command::Register(Box::new(on("elsewhere"))),
    ] {
        let mut world = World::new();
        world.submit(experiment("x", ONE_SEED));
        let (sick, well) = (world.register_as(on("sick")), world.register_as(on("well")));
        let grant = world.lease(sick, 1).remove(0);
        world.apply(unable(&grant, Cause::OutputRoot, "disk full")).unwrap();
        world.apply(how(well)).unwrap();
        let expected = if world.scheduler.takes_jobs(well) { JobStateName::Queued } else { JobStateName::Failed };
        assert_eq!(world.state(grant.job), expected);
    }
}

#[test]
fn a_pool_that_may_start_another_keeps_hope() {
    let mut world = World::new();
    let settings = Box::new(PoolSettings::new(LauncherKind::Slurm, 1));
    world.apply(Command::SetPool { name: "p".into(), settings, from_file: false }).unwrap();
    world.submit(experiment("x", ONE_SEED));
    let sick = world.register_as(on("sick"));
    let grant = world.lease(sick, 1).remove(0);
    world.apply(unable(&grant, Cause::Dataset, "no folder")).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Queued);
    let because = world.scheduler.explain(grant.job, world.now).unwrap().because;
    assert!(because.contains("of the pools, `p` has asked for none yet"), "{because}");
    world.apply(Command::EndPool("p".into())).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Failed);
}

#[test]
fn faults_end_by_registration_by_success_and_by_command() {
    let fault = |world: &World| world.scheduler.faults().count();
    let sick_world = || {
        let mut world = World::new();
        world.submit(experiment("x", TWO_SETS));
        let (sick, _) = (world.register_as(on("sick")), world.register_as(on("well")));
        let grants = world.lease(sick, 2);
        world.apply(unable(&grants[0], Cause::OutputRoot, "disk full")).unwrap();
        assert_eq!(fault(&world), 1);
        (world, grants[1].clone())
    };
    let (mut world, _) = sick_world();
    world.register_as(WorkerDescription { name: "beside".into(), output_root: "/other".into(), ..on("sick") });
    assert_eq!(fault(&world), 1, "another output root says nothing of this one");
    world.register_as(WorkerDescription { pilot: None, ..on("sick") });
    assert_eq!(fault(&world), 0);
    let (mut world, other) = sick_world();
    let adopted = Outcome { result: Some(RESULT), adopted: true, manifest: None };
    let adopts =
        Command::Complete { held: held(&other), outcome: Box::new(adopted), evaluation: None, memory_mib: None };
    world.apply(adopts).unwrap();
    assert_eq!(fault(&world), 1, "what was found wrote nothing");
    let (mut world, other) = sick_world();
    world.apply(completes(&other)).unwrap();
    assert_eq!(fault(&world), 0);
    let (mut world, _) = sick_world();
    let recheck = |host: &str| Command::Recheck { host: Some(host.into()) };
    assert_eq!(world.apply(recheck("well")), Ok(Reply::Changed(0)));
    assert_eq!(world.apply(recheck("sick")), Ok(Reply::Changed(1)));
    assert_eq!((fault(&world), world.lease(WorkerId(1), 4).len()), (0, 3));
}

#[test]
fn one_job_tries_it_after_ten_minutes_and_then_ever_more_rarely() {
    let mut world = World::new();
    world.submit(experiment("x", TWO_SETS));
    let sick = world.register_as(on("sick"));
    world.register_as(on("well"));
    let grant = world.lease(sick, 1).remove(0);
    world.apply(unable(&grant, Cause::OutputRoot, "disk full")).unwrap();
    for minutes in [10, 20, 40, 80, 120, 120] {
        // Both say something now and then.
        for _ in 0..minutes * 3 {
            assert_eq!(world.lease(sick, 1), [], "before {minutes} minutes");
            world.lease(WorkerId(2), 0);
            world.pass(MINUTE / 3);
        }
        let trials = world.lease(sick, 4);
        assert_eq!(trials.len(), 1, "after {minutes} minutes");
        assert_eq!(world.scheduler.faults().next().unwrap().trial, Some(trials[0].lease));
        world.apply(unable(&trials[0], Cause::OutputRoot, "disk full")).unwrap();
    }
    world.pass(1_000);
    world.apply(Command::Recheck { host: None }).unwrap();
    let grants = world.lease(sick, 1);
    world.apply(completes(&grants[0])).unwrap();
    assert_eq!(world.scheduler.faults().count(), 0);
}

#[test]
fn a_trial_that_is_given_back_is_begun_again() {
    let mut world = World::new();
    world.submit(experiment("x", TWO_SETS));
    let sick = world.register_as(on("sick"));
    world.register_as(on("well"));
    let grant = world.lease(sick, 1).remove(0);
    world.apply(unable(&grant, Cause::Dataset, "no folder")).unwrap();
    for _ in 0..20 {
        world.pass(MINUTE / 2);
        world.lease(sick, 0);
        world.lease(WorkerId(2), 0);
    }
    let trial = world.lease(sick, 1).remove(0);
    world.apply(Command::Release { held: held(&trial), unfinished: None }).unwrap();
    assert_eq!(world.lease(sick, 1).len(), 1);
}

#[test]
fn a_person_who_tries_again_is_taken_at_their_word() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let only = world.register_as(on("only"));
    let grant = world.lease(only, 1).remove(0);
    world.apply(unable(&grant, Cause::OutputRoot, "disk full")).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Failed);
    assert_eq!(
        world.scheduler.job(grant.job).unwrap().state,
        JobState::Failed(Box::new(Failure { class: FailureClass::Storage, reason: "disk full".into() }))
    );
    assert_eq!(world.apply(Command::RetryJobs(vec![grant.job])), Ok(Reply::Changed(2)));
    assert_eq!(world.state(grant.job), JobStateName::Queued);
    let again = world.lease(only, 1).remove(0);
    world.apply(unable(&again, Cause::OutputRoot, "disk full")).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Failed);
    // So is one who comes with something new.
    world.submit(experiment("y", "methods = [\"mmrl\"]\ndatasets = [\"eurosat\"]\nseeds = [1, 2]"));
    assert_eq!(world.lease(only, 4).len(), 1, "one tries it");
    assert_eq!(world.scheduler.counts().queued, 1, "and the other waits for that");
}

#[test]
fn a_job_whose_trainer_dies_goes_to_another_machine_and_counts() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let (one, other) = (world.register_as(on("one")), world.register_as(on("other")));
    let grant = world.lease(one, 1).remove(0);
    world.apply(fails(&grant, FailureClass::TrainerDied)).unwrap();
    world.pass(2_000);
    assert_eq!((world.scheduler.job(grant.job).unwrap().failures, world.lease(one, 1).len()), (1, 0));
    let grant = world.lease(other, 1).remove(0);
    world.apply(fails(&grant, FailureClass::TrainerDied)).unwrap();
    world.pass(4_000);
    // Nobody else is left: whoever comes first tries again.
    assert_eq!(world.lease(one, 1).len() + world.lease(other, 1).len(), 1);
}

#[test]
fn a_lost_worker_does_not_count_where_a_new_epoch_was_completed() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    for (epoch, failures, losses) in [(3, 0, 1), (3, 1, 2), (4, 1, 3), (0, 2, 4)] {
        let worker = world.register("w");
        world.pass(120_000);
        let worker = if world.scheduler.is_here(worker) { worker } else { world.register("w") };
        let grant = world.lease(worker, 1).remove(0);
        let progress = Progress { epoch, ..Progress::default() };
        world.apply(Command::Progress { held: held(&grant), progress: Some(progress) }).unwrap();
        world.register("w");
        let record = world.scheduler.job(grant.job).unwrap();
        assert_eq!((record.failures, record.losses), (failures, losses), "after epoch {epoch}");
        assert_eq!(world.restored().essence(), world.scheduler.essence());
    }
}

#[test]
fn a_worker_that_is_back_takes_back_only_what_was_counted() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let worker = world.register("w");
    let grant = world.lease(worker, 1).remove(0);
    world.apply(fails(&grant, FailureClass::TrainerDied)).unwrap();
    world.pass(2_000);
    let grant = world.lease(worker, 1).remove(0);
    let progress = Progress { epoch: 2, ..Progress::default() };
    let reports = Command::Progress { held: held(&grant), progress: Some(progress) };
    world.apply(reports.clone()).unwrap();
    world.pass(31_000);
    let record = world.scheduler.job(grant.job).unwrap();
    assert_eq!((record.state.name(), record.failures, record.losses), (JobStateName::Queued, 1, 1));
    world.apply(reports).unwrap();
    let record = world.scheduler.job(grant.job).unwrap();
    assert_eq!((record.failures, record.losses), (1, 0));
}

#[test]
fn a_folder_in_another_s_hands_is_waited_for_by_nobody() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]"));
    let (one, other) = (world.register_as(on("h0")), world.register_as(on("h1")));
    let mut job = JobId(0);
    for (i, seconds) in [5, 10, 20, 40, 80, 160, 300, 300].into_iter().enumerate() {
        let grant = world.lease(one, 1).remove(0);
        job = if i == 0 { grant.job } else { job };
        assert_eq!(grant.job, job);
        world.apply(fails_by(&grant, 5)).unwrap();
        let because = world.scheduler.explain(job, world.now).unwrap().because;
        let expected = format!(
            "process 7 on h1 works in its output folder, and the next one begins in {seconds}.0 s at the earliest"
        );
        assert_eq!(because, expected);
        assert_eq!(world.scheduler.job(job).unwrap().failures, 0);
        if i == 0 {
            // Somebody does the other job meanwhile.
            let grant = world.lease(other, 1).remove(0);
            world.apply(completes(&grant)).unwrap();
        }
        for _ in 0..seconds / 5 {
            world.lease(one, 0);
            world.lease(other, 0);
            world.pass(5_000);
        }
    }
    // The host that has the folder comes first to it.
    let grants = world.lease(other, 4);
    assert_eq!(grants[0].job, job);
    world.apply(completes(&grants[0])).unwrap();
    assert_eq!(world.database.rows.setbacks, BTreeMap::new());
}

#[test]
fn what_was_found_of_a_job_goes_with_it() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let (one, other) = (world.register_as(on("one")), world.register_as(on("other")));
    let grant = world.lease(one, 1).remove(0);
    world.apply(unable(&grant, Cause::Job, "a damaged image")).unwrap();
    let found: Vec<FaultOf> = world.scheduler.faults().map(|fault| fault.what.clone()).collect();
    assert_eq!(found, [FaultOf::Job(grant.job)]);
    let grant = world.lease(other, 1).remove(0);
    world.apply(completes(&grant)).unwrap();
    assert_eq!((world.scheduler.faults().count(), world.database.rows.faults.len()), (0, 0));
}

#[test]
fn a_name_that_is_at_work_elsewhere_is_taken() {
    let mut world = World::new();
    let described = |host: &str, root: &str| {
        Command::Register(Box::new(WorkerDescription { host: host.into(), output_root: root.into(), ..worker("w") }))
    };
    let first = world.register_as(WorkerDescription { host: "one".into(), ..worker("w") });
    world.pass(4_000);
    for (host, root) in [("other", "/out"), ("one", "/elsewhere")] {
        let refusal = world.apply(described(host, root)).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "the name `w` is taken: a worker of that name on host `one`, with the output root `/out`, was heard of 4 s ago; choose \
             another one with `--name`, or wait 26 s if that worker has ended"
        );
    }
    assert!(world.scheduler.takes_jobs(first));
    assert!(world.apply(described("one", "/out")).is_ok(), "it was started again");
    assert!(!world.scheduler.is_here(first));
    world.pass(30_000);
    assert!(world.apply(described("other", "/out")).is_ok(), "the first was silent for a lease");
}

#[test]
fn workers_that_are_long_gone_are_forgotten_and_their_numbers_are_not_given_again() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let (used, idle) = (world.register("used"), world.register("idle"));
    let grant = world.lease(used, 1).remove(0);
    world.apply(completes(&grant)).unwrap();
    for worker in [used, idle] {
        world.apply(Command::Leave { worker }).unwrap();
    }
    world.pass(23 * 60 * MINUTE);
    assert_eq!(world.scheduler.workers().count(), 2);
    let (changes, _) = {
        world.now = world.now.plus(60 * MINUTE);
        world.scheduler.apply(Command::Tick, world.now)
    };
    let forgotten: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::WorkerForgotten { worker, used } => Some((*worker, *used)),
            _ => None,
        })
        .collect();
    assert_eq!(forgotten, [(used, true), (idle, false)]);
    world.database.write(changes);
    assert_eq!(world.restored().essence(), world.scheduler.essence());
    assert_eq!((world.scheduler.workers().count(), world.register("new")), (0, WorkerId(3)));
}

#[test]
fn workers_of_a_host_share_what_lies_at_the_same_place() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2, 3]"));
    let on_host = |name: &str, places: &str, output_root: &str| WorkerDescription {
        places: places.into(),
        output_root: output_root.into(),
        ..WorkerDescription { name: name.into(), ..on("host") }
    };
    let first = world.register_as(on_host("a", "data 1", "/one"));
    let same_data = world.register_as(on_host("b", "data 1", "/other"));
    let same_output = world.register_as(on_host("c", "data 2", "/one"));
    let taken = |world: &mut World, worker| {
        let grants = world.lease(worker, 4);
        for grant in &grants {
            world.apply(Command::Release { held: held(grant), unfinished: None }).unwrap();
        }
        grants.len()
    };
    let grant = world.lease(first, 1).remove(0);
    world.apply(unable(&grant, Cause::Dataset, "no folder")).unwrap();
    assert_eq!([first, same_data, same_output].map(|worker| taken(&mut world, worker)), [0, 0, 3]);
    world.apply(Command::Recheck { host: None }).unwrap();
    let grant = world.lease(first, 1).remove(0);
    world.apply(unable(&grant, Cause::OutputRoot, "disk full")).unwrap();
    assert_eq!([first, same_data, same_output].map(|worker| taken(&mut world, worker)), [0, 3, 0]);
}
