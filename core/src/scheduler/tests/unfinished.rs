//! What a worker had of a job that it gave back goes with the job.

use super::*;

/// What the next worker is told of the one job that waits, which it gives back with something of its own, or without.
fn told(world: &mut World, gives_back: Option<&str>) -> Option<String> {
    let worker = world.register("w");
    let grant = world.lease(worker, 1).remove(0);
    let unfinished = gives_back.map(str::to_owned);
    world.apply(Command::Release { held: held(&grant), unfinished }).unwrap();
    let late = Command::Release { held: held(&grant), unfinished: Some("late".into()) };
    assert!(matches!(world.apply(late), Err(Rejection::Stale { .. })));
    grant.unfinished
}

#[test]
fn what_was_begun_goes_to_the_next_until_there_is_something_newer() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    assert_eq!(told(&mut world, Some("a")), None);
    world.scheduler = world.restored();
    assert_eq!(told(&mut world, None).as_deref(), Some("a"));
    assert_eq!(told(&mut world, Some("b")).as_deref(), Some("a"));
    assert_eq!(told(&mut world, None).as_deref(), Some("b"));
    // A worker that is lost says nothing, and takes nothing along.
    let lost = world.register("w");
    world.lease(lost, 1);
    let next = world.register("w");
    world.pass(1_000);
    assert_eq!(world.lease(next, 1)[0].unfinished.as_deref(), Some("b"));
}

#[test]
fn it_is_forgotten_when_the_job_has_ended() {
    for end in [
        completes,
        |grant: &Grant| fails(grant, FailureClass::BadData),
        |grant: &Grant| Command::CancelJobs(vec![grant.job]),
    ] {
        let mut world = World::new();
        world.submit(experiment("x", ONE_SEED));
        told(&mut world, Some("a"));
        assert_eq!(world.database.rows.unfinished.len(), 1);
        let worker = world.register("w");
        let grant = world.lease(worker, 1).remove(0);
        world.apply(end(&grant)).unwrap();
        assert!(world.scheduler.unfinished.is_empty() && world.database.rows.unfinished.is_empty());
        world.apply(Command::RetryJobs(vec![grant.job])).unwrap();
        assert!(world.lease(worker, 5).iter().all(|grant| grant.unfinished.is_none()));
    }
}
