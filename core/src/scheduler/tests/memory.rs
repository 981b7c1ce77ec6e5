//! How many jobs a worker holds at once: by what they take, as estimated and as measured, and since one ran out of memory.

use super::*;

/// Completes a job, with the memory that it took.
fn completes_with(grant: &Grant, memory_mib: u32) -> Command {
    match completes(grant) {
        Command::Complete { held, outcome, evaluation, .. } => {
            Command::Complete { held, outcome, evaluation, memory_mib: Some(memory_mib) }
        }
        other => other,
    }
}

/// A worker that has this memory and many slots.
fn of_memory(name: &str, memory_mib: Option<u64>) -> WorkerDescription {
    WorkerDescription { memory_mib, slots: 8, ..worker(name) }
}

fn runs_out(grant: &Grant) -> Command {
    fails(grant, FailureClass::OutOfMemory)
}

fn because(world: &World, job: JobId) -> String {
    world.scheduler.explain(job, world.now).unwrap().because
}

/// A world with training jobs of one shape, and the first waiting one after `leased` of them.
fn world(memory_mib: Option<u64>, leased: usize) -> (World, WorkerId, Vec<Grant>) {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=8, "")));
    let worker = world.register_as(of_memory("w", memory_mib));
    let grants = world.lease(worker, leased);
    assert_eq!(grants.len(), leased);
    (world, worker, grants)
}

fn is_restored(world: &World) {
    assert_eq!(world.restored().essence(), world.scheduler.essence());
}

#[test]
fn a_worker_holds_no_more_than_fits_its_memory() {
    let (mut world, small, _) = world(Some(5_000), 2);
    assert_eq!(world.lease(small, 4), Vec::new(), "two of 2,124 MiB each");
    let expected = "it needs about 2124 MiB, and none of the 1 workers that could run it has so much free";
    assert_eq!(because(&world, JobId(7)), expected);
    let tiny = world.register_as(of_memory("tiny", Some(100)));
    assert_eq!(world.lease(tiny, 4).len(), 1, "an estimate may be wrong: an idle worker tries");
}

#[test]
fn what_was_measured_counts_instead_of_the_estimate() {
    let (mut world, worker, grants) = world(Some(5_000), 2);
    world.apply(completes_with(&grants[0], 1_000)).unwrap();
    is_restored(&world);
    // One is left, and three more of 1,100 MiB each fit beside it.
    let trained = |grants: &[Grant]| grants.iter().filter(|grant| grant.spec.stage == Stage::Train).count();
    let more = world.lease(worker, 8);
    assert_eq!(trained(&more), 3, "{more:?}");
    world.apply(completes_with(&grants[1], 3_000)).unwrap();
    is_restored(&world);
    assert_eq!(world.lease(worker, 8), Vec::new());
    let expected = "it needs about 3300 MiB, since one of its shape took 3000, and none of the 1 workers that could run it \
                    has so much free";
    assert_eq!(because(&world, JobId(15)), expected);
}

#[test]
fn only_what_is_news_is_learned() {
    let (mut world, _, grants) = world(None, 8);
    let mut learned = Vec::new();
    for (grant, memory_mib) in grants.iter().zip([0, 1_000, 900, 1_050, 1_051, 1_051]) {
        let (changes, reply) = world.scheduler.apply(completes_with(grant, memory_mib), world.now);
        reply.unwrap();
        let needs = changes.iter().filter_map(|change| match change {
            Change::NeedChanged { need, .. } => need.memory_mib,
            _ => None,
        });
        learned.push(needs.collect::<Vec<_>>());
        world.database.write(changes);
    }
    assert_eq!(learned, [vec![], vec![1_000], vec![], vec![], vec![1_051], vec![]]);
    is_restored(&world);
    let found = Outcome { result: Some(RESULT), adopted: true, manifest: None };
    let grant = &grants[6];
    let command =
        Command::Complete { held: held(grant), outcome: Box::new(found), evaluation: None, memory_mib: Some(9_000) };
    world.apply(command).unwrap();
    let need = world.scheduler.need_of(grant.job).unwrap();
    assert_eq!(need.memory_mib, Some(1_051), "a folder that was found took no memory");
}

#[test]
fn recipes_that_differ_in_nothing_that_takes_memory_share_what_was_learned() {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=1, "overrides = { lr = 0.5 }")));
    world.submit(experiment("y", &seeds("y", "alignednorm", 1..=1, "")));
    world.submit(experiment("z", &seeds("z", "alignednorm", 1..=1, "overrides = { train_batch = 64 }")));
    let worker = world.register_as(of_memory("w", None));
    let grant = world.lease(worker, 1).remove(0);
    world.apply(completes_with(&grant, 700)).unwrap();
    let learned = |job| world.scheduler.need_of(JobId(job)).unwrap().memory_mib;
    let (trains, tests): (Vec<_>, Vec<_>) = ([1, 3, 5].map(learned).into(), [2, 4, 6].map(learned).into());
    assert_eq!((trains, tests), (vec![Some(700), Some(700), None], vec![None; 3]));
    let (shape, _) = world.database.rows.needs.first_key_value().unwrap();
    let recipe = &grant.spec.recipe;
    assert_eq!(**shape, *super::super::shape(recipe, Stage::Train, crate::method::Methods::built_in()));
    assert!(shape.starts_with("train alignednorm ViT-B/16 fp32 dtd base n_rep_tokens=5 proj_lora_dim=64"), "{shape}");
}

#[test]
fn a_job_that_runs_out_of_memory_beside_others_runs_again_at_once_with_fewer() {
    let (mut world, worker, grants) = world(None, 3);
    world.apply(runs_out(&grants[0])).unwrap();
    is_restored(&world);
    let job = world.scheduler.job(grants[0].job).unwrap();
    assert_eq!((job.state.clone(), job.failures), (JobState::Queued { not_before: world.now }, 0));
    assert_eq!(world.lease(worker, 8), Vec::new(), "two at once are the most now, and two it has");
    let expected = "a worker runs 2 jobs of its shape at once at most, other jobs among them, since one ran out of memory, and \
                    none of the 1 workers that could run it has so few";
    assert_eq!(because(&world, grants[0].job), expected);
    world.apply(completes(&grants[1])).unwrap();
    let again = world.lease(worker, 8);
    assert_eq!(again.iter().map(|grant| grant.job).collect::<Vec<_>>(), [grants[0].job], "at once");

    // The second time counts, and still one fewer are the most.
    world.apply(runs_out(&again[0])).unwrap();
    is_restored(&world);
    let job = world.scheduler.job(grants[0].job).unwrap();
    assert_eq!((job.state.clone(), job.failures), (JobState::Queued { not_before: world.now.plus(1_000) }, 1));
    assert_eq!(world.scheduler.need_of(job.id).unwrap().together, Some(1));
    world.apply(completes(&grants[2])).unwrap();
    world.pass(1_000);
    let idle = world.register_as(of_memory("idle", None));
    assert_eq!(world.lease(idle, 8).len(), 1, "one that is idle takes one");
}

#[test]
fn a_job_of_another_shape_keeps_away_as_well() {
    let (mut world, worker, grants) = world(None, 2);
    world.submit(experiment("y", "priority = 9\nmethods = [\"mmrl\"]\ndatasets = [\"eurosat\"]\nseeds = [1]"));
    world.apply(runs_out(&grants[0])).unwrap();
    assert_eq!(world.scheduler.need_of(grants[0].job).unwrap().together, Some(1));
    assert_eq!(world.scheduler.need_of(JobId(17)).unwrap(), Need::default());
    assert_eq!(world.lease(worker, 8), Vec::new(), "what the worker holds bears no other beside it");
    let expected = "each of the 1 workers that could run it has a job of a shape that ran out of memory beside others, and runs \
                    as many at once as that allows";
    assert_eq!(because(&world, JobId(17)), expected);
    world.apply(completes(&grants[1])).unwrap();
    let next = world.lease(worker, 8);
    let expected = [JobId(17), JobId(4)];
    assert_eq!(next.iter().map(|grant| grant.job).collect::<Vec<_>>(), expected, "tests are of another shape");
}

#[test]
fn a_job_that_runs_out_of_memory_alone_has_failed() {
    let (mut world, _, grants) = world(None, 1);
    world.apply(runs_out(&grants[0])).unwrap();
    is_restored(&world);
    let job = world.scheduler.job(grants[0].job).unwrap();
    assert_eq!((job.state.name(), job.failures), (JobStateName::Queued, 1));
    assert_eq!(world.scheduler.need_of(job.id), Some(Need::default()));
    assert_eq!(world.database.rows.spared.len(), 0);
}

#[test]
fn a_restart_forgets_nothing_of_it() {
    let (mut world, worker, grants) = world(Some(10_000), 4);
    world.apply(completes_with(&grants[1], 2_000)).unwrap();
    world.apply(runs_out(&grants[0])).unwrap();
    world.scheduler = world.restored();
    let need = world.scheduler.need_of(grants[0].job).unwrap();
    assert_eq!(need, Need { memory_mib: Some(2_000), together: Some(2) });
    world.apply(completes(&grants[2])).unwrap();
    let again = world.lease(worker, 8);
    assert_eq!(again.iter().map(|grant| grant.job).collect::<Vec<_>>(), [grants[0].job]);
    world.apply(runs_out(&again[0])).unwrap();
    assert_eq!(world.scheduler.job(grants[0].job).unwrap().failures, 1, "it was overlooked once already");
}
