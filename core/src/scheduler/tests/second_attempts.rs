//! Slow jobs, and those that are begun anew beside them.

use super::*;

/// Two of three seeds are trained and tested after 20 s. The third goes on for longer than twice that, on a worker that is alive.
struct Slow {
    world: World,
    grant: Grant,
    idle: WorkerId,
}

impl Slow {
    fn new() -> Self {
        let mut world = World::speculative();
        world.submit(experiment("x", &seeds("x", "alignednorm", 1..=3, "")));
        let (ailing, idle) = (world.register("ailing"), world.register("idle"));
        let grant = world.lease(ailing, 1).remove(0);
        let quick = world.lease(idle, 2);
        world.pass(20_000);
        let mut slow = Self { world, grant, idle };
        for grant in quick {
            slow.world.apply(completes(&grant)).unwrap();
        }
        for grant in slow.world.lease(idle, 2) {
            slow.world.apply(completes(&grant)).unwrap();
        }
        for _ in 0..2 {
            slow.beat();
            assert_eq!(slow.world.lease(idle, 2), Vec::new(), "nothing waits, and nothing is slow yet");
            slow.world.pass(10_000);
        }
        slow.beat();
        slow
    }

    fn beat(&mut self) {
        self.world.apply(Command::Progress { held: held(&self.grant), progress: Some(Progress::default()) }).unwrap();
    }

    /// The second attempt, which an idle worker gets.
    fn beside(&mut self) -> Grant {
        let grants = self.world.lease(self.idle, 2);
        assert_eq!(grants.iter().map(|grant| grant.job).collect::<Vec<_>>(), [self.grant.job]);
        assert_eq!(self.world.lease(self.idle, 2), Vec::new(), "two attempts are enough");
        grants[0].clone()
    }

    fn is_refused(&mut self, command: Command, because: &str) {
        match self.world.apply(command) {
            Err(Rejection::Stale { reason, .. }) => assert_eq!(reason, because),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_slow_job_is_begun_anew_beside_and_the_first_to_end_brings_the_result() {
    for slow_one_wins in [false, true] {
        let mut slow = Slow::new();
        let beside = slow.beside();
        assert_eq!(slow.world.state(beside.job), JobStateName::Running);
        let because = slow.world.scheduler.explain(beside.job, slow.world.now).unwrap().because;
        assert_eq!(because, "worker 2 has it, at step 0 of 0; worker 1 has it, at step 0 of 0, and is slow");
        slow.beat();
        assert_eq!(slow.world.restored().essence(), slow.world.scheduler.essence());
        let (first, second) = if slow_one_wins { (slow.grant.clone(), beside) } else { (beside, slow.grant.clone()) };
        slow.world.apply(completes(&first)).unwrap();
        slow.world.apply(completes(&first)).unwrap();
        slow.is_refused(completes(&second), &format!("job {} was leased again, as {}", first.job, first.lease));
        assert_eq!(slow.world.database.results.get(&first.job), Some(&1));
        assert!(slow.world.scheduler.workers.values().all(|worker| worker.held.is_empty()));
    }
}

#[test]
fn when_one_of_two_attempts_ends_without_a_result_the_other_goes_on() {
    type End = fn(&mut Slow, &Grant);
    let ends: [(&str, End); 4] = [
        ("fails", |slow, grant| drop(slow.world.apply(fails(grant, FailureClass::TrainerDied)).unwrap())),
        ("is released", |slow, grant| {
            drop(slow.world.apply(Command::Release { held: held(grant), unfinished: None }).unwrap());
        }),
        ("is started again", |slow, grant| {
            let worker = slow.world.scheduler.lease_of(grant.job, |lease| lease.id == grant.lease).unwrap().worker;
            let name = slow.world.scheduler.workers[&worker].record.description.name.clone();
            slow.world.register(&name);
        }),
        ("leaves", |slow, grant| {
            let worker = slow.world.scheduler.lease_of(grant.job, |lease| lease.id == grant.lease).unwrap().worker;
            drop(slow.world.apply(Command::Leave { worker }).unwrap());
        }),
    ];
    for (what, end) in ends {
        for slow_one_ends in [false, true] {
            let mut slow = Slow::new();
            let beside = slow.beside();
            let (gone, left) = if slow_one_ends { (slow.grant.clone(), beside) } else { (beside, slow.grant.clone()) };
            end(&mut slow, &gone);
            assert_eq!(slow.world.state(left.job), JobStateName::Running, "{what}");
            assert_eq!(slow.world.scheduler.job(left.job).unwrap().failures, 0, "{what}");
            assert_eq!(slow.world.restored().essence(), slow.world.scheduler.essence(), "{what}");
            assert!(slow.world.apply(completes(&gone)).is_err(), "{what}");
            slow.world.apply(completes(&left)).unwrap();
        }
    }
}

#[test]
fn a_silent_attempt_of_two_ends_alone_and_what_cannot_be_mended_ends_both() {
    let mut slow = Slow::new();
    let beside = slow.beside();
    for _ in 0..4 {
        slow.world.pass(10_000);
        slow.beat();
    }
    slow.is_refused(completes(&beside), &format!("job {} was leased again, as {}", beside.job, slow.grant.lease));
    slow.world.apply(completes(&slow.grant.clone())).unwrap();

    let mut slow = Slow::new();
    let beside = slow.beside();
    slow.world.apply(fails(&beside, FailureClass::BadData)).unwrap();
    assert_eq!(slow.world.state(beside.job), JobStateName::Failed);
    slow.is_refused(completes(&slow.grant.clone()), &format!("job {} is failed", beside.job));

    let mut slow = Slow::new();
    let beside = slow.beside();
    slow.world.apply(Command::CancelJobs(vec![beside.job])).unwrap();
    for grant in [beside, slow.grant.clone()] {
        slow.is_refused(completes(&grant), &format!("job {} is cancelled", grant.job));
    }
}
