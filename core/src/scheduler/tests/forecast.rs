//! What is left, and how long it will take.

use super::*;
use crate::scheduler::{Forecast, Preview};

const EXPERIMENT: ExperimentId = ExperimentId(1);

/// An attempt each.
fn each(took: &[(JobId, i64)]) -> Vec<Took> {
    took.iter().map(|&(job, total_ms)| Took { job, attempts: 1, total_ms }).collect()
}

/// The state after a restart which found that jobs took so long.
fn recalled(world: &World, took: &[(JobId, i64)]) -> Scheduler {
    let mut scheduler = world.restored();
    scheduler.recall(&each(took));
    scheduler
}

fn forecast(world: &World, took: &[(JobId, i64)]) -> Forecast {
    recalled(world, took).forecast(EXPERIMENT, Spent::default(), world.now).unwrap()
}

fn complete(world: &mut World, grant: &Grant, adopted: bool) {
    let outcome = Box::new(Outcome { result: Some(RESULT), adopted, manifest: None });
    world.apply(Command::Complete { held: held(grant), outcome, evaluation: None, memory_mib: None }).unwrap();
}

#[test]
fn an_experiment_is_done_when_its_devices_have_done_what_is_left() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2, 3]"));
    let nothing = forecast(&world, &[]);
    assert_eq!((nothing.remaining_ms, nothing.unknown, nothing.eta), (None, 6, None), "nothing was measured");

    let worker = world.register("w");
    let [first, second] = world.lease(worker, 2).try_into().unwrap();
    assert_eq!([first.spec.stage, second.spec.stage], [Stage::Train; 2]);
    complete(&mut world, &first, false);
    // Two more trainings like it, of which one has just begun; of the tests nothing is known.
    let took = [(first.job, 60_000)];
    let trainings = forecast(&world, &took);
    assert_eq!((trainings.remaining_ms, trainings.unknown, trainings.eta), (Some(120_000), 3, None));

    complete(&mut world, &second, false);
    let [third, test] = world.lease(worker, 2).try_into().unwrap();
    assert_eq!([third.spec.stage, test.spec.stage], [Stage::Train, Stage::Test]);
    complete(&mut world, &test, false);
    let took = [(first.job, 50_000), (second.job, 70_000), (test.job, 10_000)];
    world.pass(20_000);
    // One is at it, and has done a third of the training; two tests follow.
    let left = 60_000 - 20_000 + 2 * 10_000;
    let at_it = forecast(&world, &took);
    assert_eq!((at_it.remaining_ms, at_it.eta), (Some(left), Some(world.now.plus(left))));
    // When nobody is, two slots would be. What was begun is to be done anew.
    world.apply(Command::Release { held: held(&third), unfinished: None }).unwrap();
    let waiting = forecast(&world, &took);
    assert_eq!((waiting.remaining_ms, waiting.eta), (Some(80_000), Some(world.now.plus(60_000))), "the longest lasts");
    world.apply(Command::Leave { worker }).unwrap();
    let nobody = forecast(&world, &took);
    assert_eq!(nobody.eta, None);
    assert_eq!(nobody.reason.as_deref(), Some("3 of its jobs can't run: no worker is connected"));
}

/// An experiment with a label, of which everything that is known is known.
fn labelled(world: &mut World) -> Vec<(JobId, i64)> {
    world.submit(experiment("known", "methods = [\"coop\"]\ndatasets = [\"dtd\"]\nseeds = [1]"));
    let worker = world.register("w");
    for _ in 0..2 {
        let grant = world.lease(worker, 1).remove(0);
        complete(world, &grant, false);
    }
    world.submit(experiment("x", "methods = [\"coop\"]\ndatasets = [\"dtd\"]\nseeds = [2, 3]\nlabels = [\"gpu\"]"));
    vec![(JobId(1), 60_000), (JobId(2), 10_000)]
}

#[test]
fn nothing_ends_that_no_worker_can_take_and_the_forecast_says_what_is_missing() {
    let mut world = World::new();
    let took = labelled(&mut world);
    let of = |world: &World| recalled(world, &took).forecast(ExperimentId(2), Spent::default(), world.now).unwrap();
    let stuck = of(&world);
    assert_eq!((stuck.eta, stuck.remaining_ms), (None, Some(140_000)));
    let explained = world.scheduler.explain(JobId(3), world.now).unwrap().because;
    assert!(explained.contains("the label `gpu`"), "{explained}");
    // The tests wait for trainings that nobody can take: they are among those that can't run.
    assert_eq!(stuck.reason, Some(format!("4 of its jobs can't run: {explained}")));

    // Workers that can't take its jobs change nothing; one that can makes an end foreseeable, by its own slots.
    let able = world.register_as(WorkerDescription { labels: vec!["gpu".to_owned()], ..worker("able") });
    let foreseen = of(&world);
    assert_eq!((foreseen.eta, foreseen.reason), (Some(world.now.plus(70_000)), None));
    world.register("another that can't");
    assert_eq!(of(&world).eta, Some(world.now.plus(70_000)));

    // What runs goes on, but nobody takes the rest.
    let grants = world.lease(able, 1);
    assert_eq!(grants.len(), 1);
    assert_eq!(of(&world).reason, None);
    world.apply(Command::Drain { worker: able }).unwrap();
    let rest = of(&world);
    assert_eq!(rest.eta, None);
    assert!(rest.reason.as_deref().is_some_and(|reason| reason.starts_with("3 of its jobs can't run: ")), "{rest:?}");
    world.apply(Command::CancelExperiment(ExperimentId(2))).unwrap();
    let over = of(&world);
    assert_eq!((over.eta, over.reason), (None, None));
}

#[test]
fn what_was_only_found_tells_nothing_and_likeness_widens() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"mmrl\", \"coop\"]\ndatasets = [\"dtd\", \"eurosat\"]\nseeds = [1]"));
    let worker = world.register("w");
    let grants = world.lease(worker, 2);
    complete(&mut world, &grants[0], true);
    assert_eq!(forecast(&world, &[(grants[0].job, 5)]).remaining_ms, None);
    complete(&mut world, &grants[1], false);
    let Forecast { remaining_ms, unknown, .. } = forecast(&world, &[(grants[1].job, 60_000)]);
    // Trainings on other data sets and of other methods, at the same backbone; tests are another stage.
    assert_eq!((remaining_ms, unknown), (Some(2 * 60_000), 4));
    assert_eq!(
        world.scheduler.forecast(ExperimentId(9), Spent::default(), world.now).unwrap_err(),
        Rejection::NoExperiment(ExperimentId(9))
    );
}

#[test]
fn a_preview_counts_what_is_new_and_what_is_done() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]"));
    let worker = world.register("w");
    let grant = world.lease(worker, 1).remove(0);
    complete(&mut world, &grant, false);
    let preview = |rest: &str| -> Preview {
        let Command::Submit { jobs, .. } = experiment("y", rest) else { unreachable!() };
        recalled(&world, &[(grant.job, 60_000)]).preview(&jobs)
    };
    let wider = preview("methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2, 3]");
    let counts = Counts { completed: 1, queued: 2, blocked: 1, ..Counts::default() };
    assert_eq!(wider, Preview { jobs: 6, new: 2, counts, device_ms: Some(2 * 60_000), unknown: 3 });
    let other = preview("methods = [\"coop\"]\ndatasets = [\"dtd\"]\nseeds = [1]");
    assert_eq!((other.jobs, other.new, other.device_ms, other.unknown), (2, 2, Some(60_000), 1));
}

#[test]
fn runs_of_jobs_are_merged() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]"));
    world.submit(experiment("y", "methods = [\"mmrl\"]\ndatasets = [\"eurosat\", \"dtd\"]\nseeds = [2, 1]"));
    assert_eq!(world.scheduler.runs_of(ExperimentId(1)), [(JobId(1), JobId(4))]);
    assert_eq!(world.scheduler.runs_of(ExperimentId(2)), [(JobId(1), JobId(8))]);
    assert_eq!(world.scheduler.runs_of(ExperimentId(3)), []);
}
