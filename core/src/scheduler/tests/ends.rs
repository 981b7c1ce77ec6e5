//! The log says when an experiment has come to its end.

use super::*;

/// Carries a command out, and gives what it says of ends: experiment, jobs, done.
fn ends(world: &mut World, command: Command) -> Vec<(u64, usize, usize)> {
    let (changes, reply) = world.scheduler.apply(command, world.now);
    reply.unwrap();
    let said = changes.iter().filter_map(|change| match change {
        Change::Event(Event { kind: EventKind::ExperimentFinished { experiment, jobs, done, .. }, .. }) => {
            Some((experiment.0, *jobs, *done))
        }
        _ => None,
    });
    let said = said.collect();
    world.database.write(changes);
    said
}

#[test]
fn an_experiment_ends_once_for_everybody_who_wants_its_last_job() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    world.submit(experiment("y", ONE_SEED));
    let worker = world.register("w");
    let train = world.lease(worker, 1).remove(0);
    assert_eq!(ends(&mut world, completes(&train)), [], "its test is left");
    let test = world.lease(worker, 1).remove(0);
    assert_eq!(ends(&mut world, completes(&test)), [(1, 2, 2), (2, 2, 2)]);
    assert_eq!(ends(&mut world, completes(&test)), [], "the same again");
    assert_eq!(ends(&mut world, experiment("z", ONE_SEED)), [(3, 2, 2)], "all of it was there");
}

#[test]
fn what_is_cancelled_or_fails_has_ended_and_may_begin_anew() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    assert_eq!(ends(&mut world, Command::CancelExperiment(ExperimentId(1))), [(1, 2, 0)]);
    assert_eq!(ends(&mut world, Command::RetryExperiment(ExperimentId(1))), []);
    let worker = world.register("w");
    let train = world.lease(worker, 1).remove(0);
    let failure = Failure { class: FailureClass::BadData, reason: "no images".into() };
    let fails = Command::Fail { held: held(&train), failure, cause: None };
    assert_eq!(ends(&mut world, fails), [(1, 2, 0)], "with its test");
}
