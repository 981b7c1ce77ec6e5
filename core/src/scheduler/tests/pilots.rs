//! How many pilots there are, and what becomes of them.

use super::*;
use crate::id::PilotId;
use crate::scheduler::pilot_records::{
    Launch, LauncherKind, Phase, PilotEnd, PilotKey, PilotRecord, PilotState, PoolRecord, PoolSettings, PoolState,
    Sighting, Step,
};

const SLURM: LauncherKind = LauncherKind::Slurm;

fn batch(number: usize) -> String {
    format!("{number:032x}")
}

fn settings(max: u32) -> PoolSettings {
    PoolSettings { time_s: Some(3_600), ..PoolSettings::new(SLURM, max) }
}

/// A world with a cluster.
struct Site {
    world: World,
    batches: usize,
}

impl Site {
    fn new(pool: PoolSettings) -> Self {
        let mut site = Self { world: World::new(), batches: 0 };
        site.set(pool);
        site
    }

    fn set(&mut self, pool: PoolSettings) {
        let settings = Box::new(pool.checked().unwrap());
        self.world.apply(Command::SetPool { name: "gpu".into(), settings, from_file: false }).unwrap();
    }

    fn submit(&mut self, seeds: usize) {
        let seeds: Vec<usize> = (1..=seeds).collect();
        let rest = format!("methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = {seeds:?}");
        self.world.submit(experiment("x", &rest));
    }

    fn scale(&mut self) -> Vec<Step> {
        self.batches += 1;
        let batches = vec![batch(self.batches)];
        match self.world.apply(Command::Scale { launcher: SLURM, batches }) {
            Ok(Reply::Steps(steps)) => steps,
            other => panic!("{other:?}"),
        }
    }

    /// How many pilots are to be started.
    fn started(&mut self) -> u32 {
        match self.scale().as_slice() {
            [] => 0,
            [Step::Start { count, .. }] => *count,
            other => panic!("{other:?}"),
        }
    }

    fn launched(&mut self, launch: Launch) {
        self.world.apply(Command::Launched { batch: batch(self.batches), launch }).unwrap();
    }

    /// Starts pilots, which the cluster calls 1 and so on.
    fn start(&mut self, count: u32) {
        assert_eq!(self.started(), count);
        let first = self.world.scheduler.pilots().filter(|pilot| pilot.launcher_id.is_some()).count();
        self.launched(Launch::Accepted((1..=count as usize).map(|i| (first + i).to_string()).collect()));
    }

    fn pilots(&self) -> Vec<PilotRecord> {
        self.world.scheduler.pilots().cloned().collect()
    }

    fn states(&self) -> Vec<PilotState> {
        self.pilots().iter().map(|pilot| pilot.state).collect()
    }

    fn pool(&self) -> PoolRecord {
        self.world.scheduler.pool("gpu").unwrap().clone()
    }

    /// A pilot as the cluster has it.
    fn sighting(&self, pilot: usize, phase: Phase) -> Sighting {
        let record = &self.pilots()[pilot];
        Sighting {
            key: record.key(),
            launcher_id: record.launcher_id.clone().unwrap_or_else(|| "77".into()),
            phase,
            detail: format!("{phase:?}"),
            node: None,
        }
    }

    fn see(&mut self, seen: Vec<Sighting>) -> Vec<Step> {
        let asked_at = self.world.now;
        match self.world.apply(Command::Sight { launcher: SLURM, asked_at, seen }) {
            Ok(Reply::Steps(steps)) => steps,
            other => panic!("{other:?}"),
        }
    }

    fn describe(&self, pilot: usize) -> WorkerDescription {
        let key = Some(self.pilots()[pilot].key().to_string());
        WorkerDescription { pilot: key, slots: 1, time_left_ms: Some(3_600_000), ..worker(&format!("gpu-{pilot}")) }
    }

    fn arrive(&mut self, pilot: usize) -> WorkerId {
        let description = self.describe(pilot);
        self.world.register_as(description)
    }
}

#[test]
fn as_many_come_as_jobs_can_use_and_no_more_than_may() {
    let mut site = Site::new(settings(4));
    assert_eq!(site.started(), 0, "there is nothing to do");
    site.submit(3);
    site.start(3);
    assert_eq!((site.started(), site.states()), (0, vec![PilotState::Waiting; 3]), "tests wait for their trainings");
    site.submit(9);
    assert_eq!(site.started(), 0, "the next submission has to wait");
    site.world.pass(10_000);
    site.start(1);
    site.world.pass(10_000);
    assert_eq!(site.started(), 0, "there are as many as may be");
}

#[test]
fn a_job_that_waits_is_told_of_the_pilots() {
    let mut site = Site::new(settings(4));
    site.submit(1);
    let because = |site: &Site| site.world.scheduler.explain(JobId(1), site.world.now).unwrap().because;
    assert_eq!(because(&site), "no worker is connected; of the pools, `gpu` has asked for none yet");
    site.start(1);
    let waits = Sighting { detail: "PENDING (Resources)".into(), ..site.sighting(0, Phase::Waiting) };
    site.see(vec![waits]);
    let told = "no worker is connected; of the pools, 1 pilots of `gpu` are on their way: PENDING (Resources)";
    assert_eq!(because(&site), told);
    site.world.apply(Command::EndPool("gpu".into())).unwrap();
    assert_eq!(because(&site), "no worker is connected");
}

#[test]
fn slots_of_workers_and_of_pilots_are_counted() {
    let two_gpus = PoolSettings { gres: Some("gpu:2".into()), slots_per_gpu: 2, ..settings(10) };
    let mut site = Site::new(two_gpus);
    site.submit(10);
    site.world.register("here"); // of two slots
    site.start(2);
    assert_eq!(site.pilots().len(), 2);
}

#[test]
fn jobs_that_no_pilot_could_run_bring_none() {
    let mut site = Site::new(settings(4));
    site.world.submit(experiment("x", &format!("{ONE_SEED}\nlabels = [\"a100\"]")));
    assert_eq!(site.started(), 0);
    site.set(PoolSettings { labels: vec!["a100".into()], memory_mib: Some(10), ..settings(4) });
    assert_eq!(site.started(), 0, "too little memory");
    site.set(PoolSettings { labels: vec!["a100".into()], ..settings(4) });
    site.start(1);
    // The pilot turns out to have other weights: no other would be of use.
    let other = WorkerDescription { backbones: vec!["ViT-L/14".into()], ..site.describe(0) };
    site.world.register_as(other);
    site.world.pass(10_000);
    assert_eq!(site.started(), 0);
}

#[test]
fn experiments_that_may_run_few_jobs_bring_few_pilots() {
    let mut site = Site::new(settings(9));
    let rest = "methods = [\"mmrl\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2, 3, 4]\nmax_running = 2";
    site.world.submit(experiment("x", rest));
    site.start(2);
}

#[test]
fn many_short_jobs_bring_few_pilots_and_long_ones_none_without_time() {
    let mut site = Site::new(settings(9));
    site.submit(9);
    let worker = site.world.register_as(WorkerDescription { slots: 1, ..super::worker("w") });
    let first = site.world.lease(worker, 1).remove(0);
    site.world.pass(20_000);
    site.world.apply(completes(&first)).unwrap();
    // The worker takes one of eight trainings of 20 s: seven are left, and a test of which nothing is known, 170 s in all for
    // slots that get at least 30.
    site.start(6);

    let mut site = Site::new(settings(9));
    site.submit(2);
    let worker = site.world.register_as(WorkerDescription { slots: 1, ..super::worker("w") });
    let first = site.world.lease(worker, 1).remove(0);
    for _ in 0..200 {
        site.world.apply(Command::Progress { held: held(&first), progress: None }).unwrap();
        site.world.pass(20_000);
    }
    site.world.apply(completes(&first)).unwrap();
    site.world.apply(Command::Leave { worker }).unwrap();
    // Longer than any pilot's whole time: it begins in the first half, and goes on elsewhere from its last epoch.
    site.start(2);
    let pilot = site.arrive(0);
    site.world.pass(20_000);
    assert_eq!(site.world.lease(pilot, 1).len(), 1);
}

#[test]
fn a_worker_gets_no_job_that_it_has_no_time_for() {
    let mut site = Site::new(settings(2));
    site.submit(3);
    let quick = site.world.register_as(WorkerDescription { slots: 1, ..super::worker("w") });
    let first = site.world.lease(quick, 1).remove(0);
    site.world.pass(29_000);
    site.world.apply(completes(&first)).unwrap();
    let ends_soon = WorkerDescription { time_left_ms: Some(100_000), ..worker("ends soon") };
    let ends_soon = site.world.register_as(ends_soon);
    site.world.pass(45_000);
    let quick = site.world.register_as(WorkerDescription { slots: 1, ..super::worker("w") });
    let grants = site.world.lease(ends_soon, 2);
    assert!(grants.iter().all(|grant| grant.spec.stage == Stage::Test), "26 s are left, and trainings take 29");
    assert!(site.world.lease(quick, 2).iter().any(|grant| grant.spec.stage == Stage::Train));
}

#[test]
fn pilots_that_have_nothing_to_do_go_but_for_the_least() {
    let mut site = Site::new(PoolSettings { min: 1, idle_s: 60, ..settings(4) });
    assert_eq!(site.started(), 1, "whatever there is to do");
    site.launched(Launch::Accepted(vec!["1".into()]));
    site.submit(2);
    site.world.pass(10_000);
    assert_eq!(site.started(), 1);
    site.launched(Launch::Accepted(vec!["2".into()]));
    let workers = [site.arrive(0), site.arrive(1)];
    for worker in workers {
        let grant = site.world.lease(worker, 1).remove(0);
        site.world.apply(completes(&grant)).unwrap();
        let grant = site.world.lease(worker, 1).remove(0);
        site.world.apply(completes(&grant)).unwrap();
    }
    for _ in 0..5 {
        site.world.pass(10_000);
        for worker in workers {
            site.world.lease(worker, 1);
        }
        assert_eq!(site.scale(), []);
    }
    site.world.pass(10_000);
    assert_eq!(site.scale(), [], "it's asked to leave first");
    assert_eq!(site.states(), [PilotState::Stopping, PilotState::Running]);
    assert_eq!(site.world.scheduler.worker(workers[0]).unwrap().state, WorkerState::Draining);
    site.world.pass(30_000);
    assert_eq!(site.scale(), [Step::Stop(vec!["1".into()])], "and is ended if it doesn't");
    let over = vec![site.sighting(0, Phase::Over(PilotEnd::Cancelled)), site.sighting(1, Phase::Running)];
    site.see(over);
    assert_eq!((site.states(), site.pool().crashes), (vec![PilotState::Running], 0));
}

#[test]
fn waiting_pilots_go_when_their_jobs_do() {
    let mut site = Site::new(PoolSettings { idle_s: 60, ..settings(4) });
    site.submit(3);
    site.start(3);
    site.world.apply(Command::CancelExperiment(ExperimentId(1))).unwrap();
    assert_eq!(site.scale(), []);
    site.world.pass(59_000);
    assert_eq!(site.scale(), []);
    site.world.pass(1_000);
    assert_eq!(site.scale(), [Step::Stop(vec!["3".into(), "2".into(), "1".into()])]);
    site.see(Vec::new());
    assert_eq!(site.states(), []);
}

#[test]
fn nothing_is_left_behind_whoever_dies_when() {
    let mut site = Site::new(settings(4));
    site.submit(2);
    // Ordered, and then the coordinator dies before it hears how it went.
    assert_eq!(site.started(), 2);
    site.world.scheduler = site.world.restored();
    assert_eq!(site.states(), [PilotState::Submitting; 2]);
    // The cluster has it: it's known by its key.
    let seen = vec![
        site.sighting(0, Phase::Waiting),
        Sighting { launcher_id: "78".into(), ..site.sighting(1, Phase::Running) },
    ];
    assert_eq!(site.see(seen), []);
    assert_eq!(site.states(), [PilotState::Waiting, PilotState::Running]);
    let names: Vec<_> = site.pilots().into_iter().map(|pilot| pilot.launcher_id.unwrap()).collect();
    assert_eq!(names, ["77", "78"]);
    // One that is over for us, or of which we never knew, is a stray.
    let stray = |key: PilotKey, launcher_id: &str, phase| Sighting {
        key,
        launcher_id: launcher_id.into(),
        phase,
        detail: String::new(),
        node: None,
    };
    let unknown = PilotKey { batch: batch(99), index: 0 };
    let mut seen: Vec<_> = (0..2).map(|pilot| site.sighting(pilot, Phase::Running)).collect();
    seen.push(stray(unknown.clone(), "90", Phase::Waiting));
    seen.push(stray(unknown, "91", Phase::Over(PilotEnd::Done)));
    // The number of a pilot was given out again, to a job with another key.
    seen[0].launcher_id = "12".into();
    assert_eq!(site.see(seen), [Step::Stop(vec!["12".into(), "90".into()])]);
    assert_eq!(site.states(), [PilotState::Running]);
    site.world.pass(10_000);
    site.start(1);
}

#[test]
fn an_order_of_which_nobody_knows_how_it_went_is_decided_by_the_next_look() {
    let mut site = Site::new(settings(4));
    site.submit(2);
    assert_eq!(site.started(), 2);
    site.launched(Launch::Unclear("sbatch didn't answer".into()));
    site.world.pass(60_000);
    assert_eq!(site.started(), 0, "not before it's known");
    let seen = vec![site.sighting(1, Phase::Waiting)];
    site.see(seen);
    assert_eq!(site.states(), [PilotState::Waiting]);
    site.start(1);
}

#[test]
fn a_pool_without_luck_waits_longer_each_time_and_pauses() {
    let mut site = Site::new(settings(1));
    site.submit(1);
    let mut waits = Vec::new();
    while site.pool().state == PoolState::Active {
        assert_eq!(site.started(), 1);
        site.launched(Launch::Refused("invalid account".into()));
        let until = site.pool().not_before;
        waits.push(until.since(site.world.now) / 1000);
        site.world.pass(until.since(site.world.now));
    }
    assert_eq!(waits, [10, 60, 300, 900, 3600, 3600, 3600, 3600, 3600, 3600]);
    assert_eq!((site.pool().reason.as_deref(), site.started()), (Some("invalid account"), 0));
    site.world.apply(Command::ResumePool("gpu".into())).unwrap();
    // A cluster that can't be asked isn't to blame.
    for _ in 0..20 {
        assert_eq!(site.started(), 1);
        site.launched(Launch::Unavailable("unable to contact slurm controller".into()));
        site.world.pass(30_000);
    }
    assert_eq!(site.pool().state, PoolState::Active);
    // Pilots that come to nothing.
    for crash in 1..=3 {
        site.start(1);
        assert_eq!(site.pool().reason.is_some(), crash > 1, "it stands there until one is of use");
        let over = site.sighting(0, Phase::Over(PilotEnd::Failed));
        site.see(vec![over]);
        assert_eq!(site.pool().crashes, crash);
        assert!(site.pool().reason.unwrap().contains("of no use"));
        site.world.pass(3_600_000);
    }
    let reason = site.pool().reason.unwrap();
    assert!(reason.contains("3 pilots in a row") && reason.contains("Failed"), "{reason}");
    assert_eq!((site.pool().state, site.started()), (PoolState::Paused, 0));
}

#[test]
fn a_pilot_that_was_taken_away_or_lived_long_is_no_crash() {
    let mut site = Site::new(settings(1));
    site.submit(1);
    for end in [PilotEnd::Taken, PilotEnd::Cancelled, PilotEnd::Taken, PilotEnd::Taken] {
        site.start(1);
        let over = site.sighting(0, Phase::Over(end));
        site.see(vec![over]);
        let wait = site.pool().not_before.since(site.world.now);
        assert!(wait <= 30_000, "{wait} after {end:?}");
        site.world.pass(30_000);
    }
    site.start(1);
    let worker = site.arrive(0);
    site.world.pass(50_000);
    site.world.lease(worker, 1);
    site.world.pass(20_000);
    site.world.lease(worker, 1);
    let grant = site.world.lease(worker, 1).pop();
    assert_eq!(grant, None, "it has one already");
    let over = site.sighting(0, Phase::Over(PilotEnd::Failed));
    site.see(vec![over]);
    assert_eq!((site.pool().crashes, site.pool().state), (0, PoolState::Active));
    // Its worker isn't waited for.
    assert_eq!(site.world.scheduler.worker(worker).unwrap().state, WorkerState::Lost);
    assert_eq!(site.world.state(JobId(1)), JobStateName::Queued);
}

#[test]
fn a_pilot_is_there_as_long_as_its_worker_is() {
    let mut site = Site::new(settings(1));
    site.submit(2);
    site.start(1);
    let worker = site.arrive(0);
    assert_eq!(site.states(), [PilotState::Running], "its worker's word is quicker than the cluster's");
    // A controller that lost its state doesn't know it any more.
    assert_eq!(site.see(Vec::new()), []);
    assert_eq!(site.states(), [PilotState::Running]);
    // What the cluster said before its worker came is old.
    let waits = site.sighting(0, Phase::Waiting);
    site.see(vec![waits.clone()]);
    assert_eq!(site.states(), [PilotState::Running]);
    // The cluster starts it again under the same name: what it had is given back, and the worker comes again.
    let grant = site.world.lease(worker, 1).remove(0);
    site.world.pass(1_000);
    site.see(vec![waits]);
    assert_eq!((site.states(), site.world.state(grant.job)), (vec![PilotState::Waiting], JobStateName::Queued));
    assert_eq!(site.world.scheduler.job(grant.job).unwrap().failures, 0);
    let again = site.arrive(0);
    assert!(again > worker && !site.world.scheduler.is_here(worker));
    assert_eq!(site.pilots()[0].worker, Some(again));
    // It's lost, and the cluster hasn't noticed.
    site.world.pass(60_000);
    site.world.pass(1);
    assert!(!site.world.scheduler.is_here(again));
    let runs = site.sighting(0, Phase::Running);
    site.see(vec![runs]);
    assert_eq!(site.scale(), []);
    site.world.pass(119_000);
    assert_eq!(site.scale(), []);
    site.world.pass(1_000);
    assert_eq!(site.scale(), [Step::Stop(vec!["1".into()])]);
    let refusal = site.world.apply(Command::Register(Box::new(site.describe(0)))).unwrap_err().to_string();
    assert!(refusal.contains("isn't wanted"), "{refusal}");
}

#[test]
fn a_pilot_that_runs_without_a_worker_is_ended() {
    let mut site = Site::new(settings(1));
    site.submit(1);
    site.start(1);
    let runs = site.sighting(0, Phase::Running);
    site.see(vec![runs]);
    site.world.pass(599_000);
    assert_eq!(site.scale(), []);
    site.world.pass(1_000);
    assert_eq!(site.scale(), [Step::Stop(vec!["1".into()])]);
    assert!(site.pool().reason.unwrap().contains("its worker hasn't come within 10 minutes"));
}

#[test]
fn a_pool_that_is_turned_off_ends_all_that_it_has() {
    let mut site = Site::new(settings(4));
    site.submit(3);
    site.start(3);
    let worker = site.arrive(0);
    site.world.apply(Command::EndPool("gpu".into())).unwrap();
    assert_eq!(site.pool().state, PoolState::Ending);
    assert_eq!(site.scale(), [Step::Stop(["1", "2", "3"].map(str::to_owned).to_vec())]);
    assert_eq!(site.scale(), []);
    site.world.pass(30_000);
    let seen = vec![site.sighting(0, Phase::Running), site.sighting(1, Phase::Over(PilotEnd::Cancelled))];
    site.see(seen);
    assert_eq!(site.scale(), [Step::Stop(vec!["1".into()])], "again, for what is still there");
    let over = site.sighting(0, Phase::Over(PilotEnd::Cancelled));
    site.see(vec![over]);
    assert_eq!((site.scale(), site.pool().state), (Vec::new(), PoolState::Off));
    assert!(!site.world.scheduler.is_here(worker), "its worker isn't waited for");
    let unknown = site.world.apply(Command::EndPool("cpu".into())).unwrap_err();
    assert_eq!(unknown, Rejection::NoPool("cpu".into()));
    // An order that was under way when the pool was turned off is ended as soon as it has a name.
    site.set(settings(4));
    assert_eq!(site.started(), 3);
    site.world.apply(Command::EndPool("gpu".into())).unwrap();
    assert_eq!(site.scale(), []);
    site.batches -= 1;
    site.launched(Launch::Accepted(["4", "5", "6"].map(str::to_owned).to_vec()));
    assert_eq!(site.scale(), [Step::Stop(["4", "5", "6"].map(str::to_owned).to_vec())]);
    assert_eq!(site.world.database.rows.last_pilot, PilotId(6));
}

/// Something that a person, a pilot or a cluster might say at any time.
pub(super) fn random(world: &World, what: usize, which: usize) -> Command {
    let pilots: Vec<PilotRecord> = world.scheduler.pilots().cloned().collect();
    let pilot = pilots.get(which % pilots.len().max(1));
    // Never the same twice, as long as it's asked at different places of the log.
    let fresh = batch(1_000 + world.scheduler.last_sequence().0 as usize);
    let of = |pilot: Option<&PilotRecord>| pilot.map_or_else(|| fresh.clone(), |pilot| pilot.batch.clone());
    match what {
        0 => {
            let settings = PoolSettings { min: (which % 3) as u32, idle_s: 20, ..settings(1 + (which % 4) as u32) };
            let name = ["a", "b"][which % 2].to_owned();
            Command::SetPool {
                name,
                settings: Box::new(settings.checked().unwrap_or(self::settings(2))),
                from_file: false,
            }
        }
        1 if which.is_multiple_of(4) => Command::EndPool(["a", "b"][which / 4 % 2].into()),
        1 => Command::ResumePool("a".into()),
        2 | 3 => Command::Scale { launcher: SLURM, batches: vec![fresh.clone(), fresh.replacen('0', "f", 1)] },
        4 => {
            let reason = || "random".to_owned();
            let launch = match which % 4 {
                0 => Launch::Refused(reason()),
                1 => Launch::Unavailable(reason()),
                2 => Launch::Unclear(reason()),
                _ => Launch::Accepted((0..4).map(|i| format!("{}_{i}", of(pilot))).collect()),
            };
            Command::Launched { batch: of(pilot), launch }
        }
        5 | 6 => {
            let phases = [
                Phase::Waiting,
                Phase::Running,
                Phase::Suspended,
                Phase::Unknown,
                Phase::Over(PilotEnd::Done),
                Phase::Over(PilotEnd::Failed),
                Phase::Over(PilotEnd::Taken),
            ];
            let sighting = |(i, pilot): (usize, &PilotRecord)| Sighting {
                key: pilot.key(),
                launcher_id: pilot.launcher_id.clone().unwrap_or_else(|| format!("{}_{}", pilot.batch, pilot.index)),
                phase: phases[(which + i) % phases.len()],
                detail: "random".into(),
                node: None,
            };
            let seen = pilots.iter().enumerate().filter(|(i, _)| (which >> (i % 6)) & 1 == 1).map(sighting).collect();
            Command::Sight { launcher: SLURM, asked_at: world.now, seen }
        }
        _ => {
            let key = pilot.map(|pilot| pilot.key().to_string());
            let name = format!("pilot {}", pilot.map_or(0, |pilot| pilot.id.0));
            Command::Register(Box::new(WorkerDescription { pilot: key, time_left_ms: Some(100_000), ..worker(&name) }))
        }
    }
}

#[test]
fn none_is_started_that_is_known_to_have_other_weights() {
    for says_so in [true, false] {
        let mut site = Site::new(settings(4));
        site.submit(3);
        site.start(3);
        let backbone_sha256: BTreeMap<_, _> = says_so.then(|| ("ViT-B/16".to_owned(), sha256(2))).into_iter().collect();
        let description = WorkerDescription { backbone_sha256, ..site.describe(0) };
        site.world.apply(pins("ViT-B/16", 1)).unwrap();
        let worker = site.world.register_as(description);
        if !says_so {
            let grant = site.world.lease(worker, 1).remove(0);
            site.world.apply(lacks_backbone(&grant, 2)).unwrap();
        }
        assert_eq!(site.world.lease(worker, 1), []);
        let queued = site.world.scheduler.counts().queued;
        assert_eq!(queued, 3);
        assert_eq!(site.scale(), [], "those on their way have the same");
        site.world.apply(pins("ViT-B/16", 2)).unwrap();
        assert_eq!(site.world.lease(worker, 1).len(), 1);
    }
}
