//! Workers: processes with slots that lease, train, report, crash, hang, are cut off and leave.

use promptfield_core::id::WorkerId;
use promptfield_core::job::outcome::FailureClass;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::scheduler::WorkerDescription;

use super::{Event, Line, Size, World};
use crate::climate::wait;
use crate::plans::{BACKBONES, DATASETS};
use crate::random::{Random, trait_of};
use crate::wire::{Answer, Ask, Caller, Lacks, Lists, On, Unable, Work, sha256};

/// The shortest time between two polls of a slot.
const SHORTEST_POLL: i64 = 1_000;
/// The time from a job's beginning to its first word.
const FIRST_WORD: i64 = 250;
/// How long jobs take on a worker of usual speed.
const TRAINING: std::ops::RangeInclusive<i64> = 10_000..=120_000;
const TEST: std::ops::RangeInclusive<i64> = 1_000..=15_000;
/// How much shorter jobs are in a large world, so that most of its commands are about jobs and not heartbeats.
const BREVITY: i64 = 4;
/// The memory that jobs take.
const TRAINING_MIB: std::ops::RangeInclusive<i64> = 1_000..=4_000;
const TEST_MIB: std::ops::RangeInclusive<i64> = 500..=1_000;
/// A worker's speed and the pace of its clock, in per cent of the usual.
const SPEED: std::ops::RangeInclusive<i64> = 50..=200;
const PACE: std::ops::RangeInclusive<i64> = 60..=200;
/// The longest that a job can take.
pub(super) const LONGEST_JOB: i64 = *TRAINING.end() * *SPEED.end() / 100;

/// A worker: a machine, and the process that runs on it now.
#[derive(Debug)]
pub(super) struct Worker {
    /// Whether it has the weights of each of [`BACKBONES`].
    backbones: [bool; BACKBONES.len()],
    /// The version of its weights, and whether it says which it is.
    version: u8,
    says_version: bool,
    /// What its machine can't use.
    unable: Option<Unable>,
    /// Jobs that a slot asks for at once; it gives back all but one.
    appetite: usize,
    /// What it says that its slots share.
    memory_mib: Option<u64>,
    speed: i64,
    pace: i64,
    pub(super) slots: Vec<Slot>,
    up: bool,
    leaving: bool,
    /// Counts up when the process starts: what was meant for the one before finds nobody.
    life: u32,
    id: Option<WorkerId>,
    registering: bool,
    frozen_until: i64,
    cut_off_until: i64,
}

/// A slot of a worker's process.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Counts up with everything that the slot begins: what was meant for something earlier finds nobody.
    run: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It waits for the worker's identifier.
    Waiting,
    /// It asked for jobs at this time.
    Polling(i64),
    /// It runs a job, with the identifier under which it was granted, and so many steps done.
    /// What it read of the data set lies on the slot's machine since it began.
    Running { work: Work, under: Option<WorkerId>, step: u64, lists: Lists },
    /// It reports a job's end.
    Reporting,
}

impl Worker {
    pub(super) fn new(place: usize, small: bool, random: &mut Random) -> Self {
        // The first has all weights, so that every job finds somebody in the end.
        let all = place == 0 || !small;
        let second = random.chance(400);
        let slots = if small { random.between(1..=3) as usize } else { 2 };
        Self {
            backbones: [all || !second || random.chance(500), all || second],
            version: if small && random.chance(150) { 2 } else { 1 },
            says_version: random.chance(500),
            memory_mib: (small && random.chance(500)).then(|| random.between(2_000..=10_000).cast_unsigned()),
            unable: None,
            appetite: if small && random.chance(200) { 2 } else { 1 },
            speed: random.between(SPEED),
            pace: if small { random.between(PACE) } else { 100 },
            slots: vec![Slot { run: 0, phase: Phase::Waiting }; slots],
            up: false,
            leaving: false,
            life: 0,
            id: None,
            registering: false,
            frozen_until: 0,
            cut_off_until: 0,
        }
    }

    /// Its weights of a backbone.
    pub(super) fn weights(&self, backbone: usize) -> Option<BasisHash> {
        self.backbones[backbone].then(|| sha256(100 + backbone as u8, self.version))
    }

    fn process(&self, worker: usize) -> Caller {
        Caller::Process { worker, life: self.life }
    }

    fn slot(&self, worker: usize, slot: usize) -> Caller {
        Caller::Slot { worker, life: self.life, slot, run: self.slots[slot].run }
    }
}

/// Whether a job needs what a machine can't use.
const fn needs(work: &Work, unable: Unable) -> bool {
    match unable {
        Unable::OutputRoot | Unable::Job => true,
        Unable::Dataset(place) => work.dataset == place,
        Unable::Backbone(place) => work.backbone == place,
    }
}

/// Whether a worker has the weights that a job asks for.
fn is_right(worker: &Worker, work: &Work) -> bool {
    work.pinned.is_none_or(|pinned| worker.weights(work.backbone) == Some(pinned))
}

impl World {
    /// What a worker says of itself.
    pub(super) fn description(&self, place: usize) -> WorkerDescription {
        let worker = &self.workers[place];
        let backbones = BACKBONES.iter().zip(worker.backbones).filter(|(_, has)| *has);
        WorkerDescription {
            name: format!("worker {place}"),
            host: format!("host {place}"),
            output_root: "/out".to_owned(),
            places: String::new(),
            slots: worker.slots.len(),
            devices: vec!["cpu".to_owned()],
            backbones: backbones.map(|(name, _)| (*name).to_owned()).collect(),
            backbone_sha256: BACKBONES
                .iter()
                .enumerate()
                .filter(|_| worker.says_version)
                .filter_map(|(place, name)| Some(((*name).to_owned(), worker.weights(place)?)))
                .collect(),
            methods: std::collections::BTreeMap::new(),
            version: promptfield_core::VERSION.to_owned(),
            labels: Vec::new(),
            memory_mib: worker.memory_mib,
            pilot: None,
            time_left_ms: None,
        }
    }

    /// Whether a slot is still in what it was in.
    pub(super) fn is_at(&self, worker: usize, life: u32, slot: usize, run: u32) -> bool {
        self.is_waiting(Caller::Slot { worker, life, slot, run })
    }

    pub(super) fn is_waiting(&self, caller: Caller) -> bool {
        match caller {
            Caller::Person => true,
            Caller::Process { worker, life } => self.workers[worker].up && self.workers[worker].life == life,
            Caller::Slot { worker, life, slot, run } => {
                let Some(process) = self.workers.get(worker) else { return false };
                process.up && process.life == life && process.slots[slot].run == run
            }
        }
    }

    pub(super) fn is_cut_off(&self, caller: Caller) -> bool {
        caller.worker().is_some_and(|worker| self.workers[worker].cut_off_until > self.now)
    }

    /// When the process that an event is for goes on, if it hangs.
    pub(super) fn frozen_until(&self, event: &Event) -> Option<i64> {
        let worker = match event {
            Event::Answered { caller, .. } | Event::GivesUp { caller, .. } | Event::Repeats { caller, .. } => {
                caller.worker()?
            }
            Event::Polls { worker, .. } | Event::Beats { worker, .. } | Event::Ends { worker, .. } => *worker,
            _ => return None,
        };
        let thaws = self.workers[worker].frozen_until;
        (thaws > self.now).then_some(thaws)
    }

    /// A time as a caller's own clock measures it.
    pub(super) fn by_its_clock(&self, caller: Caller, time: i64) -> i64 {
        caller.worker().map_or(time, |worker| time * self.workers[worker].pace / 100)
    }

    pub(super) fn worker_starts(&mut self, worker: usize) {
        let other = self.random.chance(self.climate.reweighted);
        let unable = self.random.chance(self.climate.unable).then(|| match self.random.below(3) {
            0 => Unable::OutputRoot,
            1 => Unable::Dataset(self.random.place(DATASETS.len())),
            _ => Unable::Backbone(self.random.place(BACKBONES.len())),
        });
        let process = &mut self.workers[worker];
        if process.up {
            return;
        }
        if other {
            process.version = 3 - process.version;
        }
        process.unable = unable;
        process.up = true;
        process.leaving = false;
        process.life += 1;
        process.id = None;
        process.registering = false;
        process.frozen_until = 0;
        for slot in &mut process.slots {
            slot.run += 1;
            slot.phase = Phase::Waiting;
        }
        self.history.note(self.now, Line::WorkerStarts { worker });
        self.register(worker);
    }

    fn register(&mut self, worker: usize) {
        let process = &mut self.workers[worker];
        if std::mem::replace(&mut process.registering, true) || process.leaving {
            return;
        }
        process.id = None;
        let caller = process.process(worker);
        self.call(caller, Ask::Register(worker));
    }

    pub(super) fn process_hears(&mut self, worker: usize, ask: Ask, answer: &Answer) {
        match (ask, answer) {
            (Ask::Register(_), Answer::Registered(id)) => {
                let process = &mut self.workers[worker];
                process.id = Some(*id);
                process.registering = false;
                for slot in 0..self.workers[worker].slots.len() {
                    if matches!(self.workers[worker].slots[slot].phase, Phase::Waiting) {
                        self.poll(worker, slot);
                    }
                }
            }
            (Ask::Leave(_), _) => {
                self.workers[worker].up = false;
                let delay = self.random.between(1_000..=300_000);
                self.plan(delay, Event::Starts { worker });
            }
            _ => {}
        }
    }

    /// Asks for jobs, once the worker is registered.
    pub(super) fn poll(&mut self, worker: usize, slot: usize) {
        let now = self.now;
        let process = &mut self.workers[worker];
        if process.leaving {
            return;
        }
        process.slots[slot].run += 1;
        let Some(id) = process.id else {
            process.slots[slot].phase = Phase::Waiting;
            self.register(worker);
            return;
        };
        process.slots[slot].phase = Phase::Polling(now);
        let (caller, slots) = (process.slot(worker, slot), process.appetite);
        self.call(caller, Ask::Lease { worker: id, slots });
    }

    pub(super) fn slot_hears(&mut self, worker: usize, slot: usize, ask: Ask, answer: Answer) {
        match (ask, answer) {
            (Ask::Lease { .. }, Answer::Granted(works)) => self.granted(worker, slot, &works),
            (Ask::Lease { worker: id, .. }, _) => {
                self.forget(worker, id);
                self.poll(worker, slot);
            }
            (Ask::Progress { .. }, Answer::Renewed { ttl_ms }) => self.beat_after(worker, slot, ttl_ms / 3),
            (Ask::Progress { .. }, Answer::NoWorker) => {
                // The lease went with the registration. The job may still be finished before anybody else gets it.
                if let Phase::Running { work, under: Some(under), .. } = self.workers[worker].slots[slot].phase {
                    self.forget(worker, under);
                    self.register_if_unknown(worker);
                    self.beat_after(worker, slot, work.ttl_ms / 3);
                }
            }
            (Ask::Progress { .. }, _) => self.stops(worker, slot),
            // A job's end was heard, or is no longer wanted.
            _ => self.poll(worker, slot),
        }
    }

    /// The coordinator doesn't know this identifier any more.
    fn forget(&mut self, worker: usize, id: WorkerId) {
        if self.workers[worker].id == Some(id) {
            self.workers[worker].id = None;
        }
    }

    fn register_if_unknown(&mut self, worker: usize) {
        if self.workers[worker].id.is_none() {
            self.register(worker);
        }
    }

    fn granted(&mut self, worker: usize, slot: usize, works: &[Work]) {
        let Some((work, surplus)) = works.split_first() else {
            let process = &self.workers[worker];
            let Phase::Polling(asked) = process.slots[slot].phase else { return };
            let again = asked + self.by_its_clock(process.process(worker), SHORTEST_POLL);
            let (life, run) = (process.life, process.slots[slot].run);
            self.plan(again - self.now, Event::Polls { worker, life, slot, run });
            return;
        };
        for Work { lease, token, .. } in surplus {
            let caller = self.workers[worker].process(worker);
            self.call(caller, Ask::Release { lease: *lease, token: *token });
        }
        self.begins(worker, slot, *work);
    }

    fn begins(&mut self, worker: usize, slot: usize, work: Work) {
        self.history.note(self.now, Line::Begins { worker, slot, work });
        let takes = self.random.between(if work.trains { TRAINING } else { TEST });
        let brevity = if self.settings.size == Size::Small { 1 } else { BREVITY };
        let process = &mut self.workers[worker];
        let is_right = is_right(process, &work);
        let takes = if is_right { takes * process.speed / 100 / brevity } else { FIRST_WORD };
        let under = process.id;
        let of = &mut process.slots[slot];
        of.run += 1;
        of.phase = Phase::Running { work, under, step: 0, lists: self.data[work.dataset] };
        let (life, run) = (process.life, process.slots[slot].run);
        self.plan(takes, Event::Ends { worker, life, slot, run });
        self.beat_after(worker, slot, FIRST_WORD);
    }

    fn beat_after(&mut self, worker: usize, slot: usize, time: i64) {
        let process = &self.workers[worker];
        let (life, run) = (process.life, process.slots[slot].run);
        let delay = self.by_its_clock(process.process(worker), time);
        self.plan(delay, Event::Beats { worker, life, slot, run });
    }

    /// Reports that a job is alive.
    pub(super) fn beats(&mut self, worker: usize, slot: usize) {
        let process = &mut self.workers[worker];
        let Phase::Running { work, step, .. } = &mut process.slots[slot].phase else { return };
        let ask = Ask::Progress { lease: work.lease, token: work.token, step: *step };
        *step += 1;
        let caller = process.slot(worker, slot);
        self.call(caller, ask);
    }

    /// Breaks a job off that is somebody else's now.
    fn stops(&mut self, worker: usize, slot: usize) {
        if let Phase::Running { work, .. } = self.workers[worker].slots[slot].phase {
            self.history.note(self.now, Line::Stops { worker, slot, work });
        }
        self.poll(worker, slot);
    }

    /// A job has come to its end, whichever it is.
    pub(super) fn job_ends(&mut self, worker: usize, slot: usize) {
        let Phase::Running { work, lists, .. } = self.workers[worker].slots[slot].phase else { return };
        let Work { lease, token, job, .. } = work;
        let nature = trait_of(self.settings.seed, job.0);
        let is_right = is_right(&self.workers[worker], &work);
        if is_right && nature % 1000 < self.climate.poisoned {
            self.worker_dies(worker, 1..=30_000);
            return;
        }
        let fails = |class| Ask::Fail { lease, token, class, lacks: Lacks::Nothing };
        let unusable = nature / 1_000_000_000_000 % 1000 < self.climate.unusable;
        let weights = self.workers[worker].weights(work.backbone);
        let unable = self.workers[worker].unable.filter(|unable| needs(&work, *unable));
        let damaged = || self.random.chance(self.climate.damaged).then_some(Unable::Job);
        let ask = if let Some(unable) = unable.or_else(damaged) {
            Ask::Fail { lease, token, class: FailureClass::Storage, lacks: Lacks::Machine(unable) }
        } else if self.random.chance(self.climate.in_use) {
            Ask::Fail { lease, token, class: FailureClass::Storage, lacks: Lacks::Folder }
        } else if let (Some(weights), false) = (weights, is_right) {
            Ask::Fail { lease, token, class: FailureClass::Missing, lacks: Lacks::Backbone(weights) }
        } else if nature / 1000 % 1000 < self.climate.bad {
            fails(FailureClass::ALL[(nature / 1_000_000) as usize % FailureClass::ALL.len()])
        } else if work.tests && (unusable || self.random.chance(self.climate.astray)) {
            Ask::Fail { lease, token, class: FailureClass::Missing, lacks: Lacks::Checkpoint }
        } else if self.is_crowded(worker) && self.random.chance(self.climate.crowded) {
            fails(FailureClass::OutOfMemory)
        } else if self.random.chance(self.climate.fails) {
            fails(FailureClass::ALL[self.random.place(FailureClass::ALL.len())])
        } else {
            let adopted = !work.afresh && nature / 1_000_000_000 % 1000 < self.climate.adopted;
            let says_test = self.random.chance(900);
            // Some folders are another tool's, and say nothing.
            let says = self.settings.size == Size::Small && !(adopted && nature.is_multiple_of(2));
            let on = weights.filter(|_| says).map(|weights| On { weights, lists, says_test });
            let took = self.random.between(if work.trains { TRAINING_MIB } else { TEST_MIB });
            let memory_mib = self.random.chance(800).then_some(took as u32);
            Ask::Complete { lease, token, adopted, memory_mib, on }
        };
        let process = &mut self.workers[worker];
        // Its heartbeats end here: an answer to one of them finds nobody.
        process.slots[slot].run += 1;
        process.slots[slot].phase = Phase::Reporting;
        let caller = process.slot(worker, slot);
        self.call(caller, ask);
    }

    /// Whether a worker runs several jobs.
    fn is_crowded(&self, worker: usize) -> bool {
        let runs = |slot: &&Slot| matches!(slot.phase, Phase::Running { .. });
        self.workers[worker].slots.iter().filter(runs).count() > 1
    }

    pub(super) fn next_blow(&mut self) {
        let delay = wait(&mut self.random, self.climate.between_blows);
        self.plan(delay, Event::Blow);
    }

    /// Something befalls a worker.
    pub(super) fn blow(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.next_blow();
        let worker = self.random.place(self.workers.len());
        if !self.workers[worker].up {
            return;
        }
        self.blows += 1;
        let until = self.now + self.random.between(1_000..=200_000);
        match self.random.below(10) {
            0..=2 => self.worker_dies(worker, 500..=200_000),
            3..=5 => {
                self.workers[worker].frozen_until = until;
                self.history.note(self.now, Line::WorkerHangs { worker, until });
            }
            6..=8 => {
                self.workers[worker].cut_off_until = until;
                self.history.note(self.now, Line::WorkerIsCutOff { worker, until });
            }
            _ => self.leave(worker),
        }
    }

    fn worker_dies(&mut self, worker: usize, absent: std::ops::RangeInclusive<i64>) {
        self.history.note(self.now, Line::WorkerDies { worker });
        self.workers[worker].up = false;
        let absent = self.random.between(absent);
        self.plan(absent, Event::Starts { worker });
    }

    /// A worker shuts down: it gives back what it runs, or leaves that to the coordinator.
    fn leave(&mut self, worker: usize) {
        let Some(id) = self.workers[worker].id else { return };
        if self.workers[worker].leaving {
            return;
        }
        self.history.note(self.now, Line::WorkerLeaves { worker });
        self.workers[worker].leaving = true;
        let caller = self.workers[worker].process(worker);
        let releases = self.random.chance(500);
        for slot in 0..self.workers[worker].slots.len() {
            let of = &mut self.workers[worker].slots[slot];
            of.run += 1;
            if let Phase::Running { work, .. } = std::mem::replace(&mut of.phase, Phase::Waiting)
                && releases
            {
                self.call(caller, Ask::Release { lease: work.lease, token: work.token });
            }
        }
        self.call(caller, Ask::Leave(id));
    }

    /// Starts workers that are down, and those that were drained anew.
    pub(super) fn tend_workers(&mut self) {
        for worker in 0..self.workers.len() {
            let process = &self.workers[worker];
            let drained = process.id.is_some_and(|id| self.audit.is_draining(id));
            if process.up && drained && !process.leaving {
                self.worker_dies(worker, 1..=1_000);
            } else if !process.up {
                self.worker_starts(worker);
            }
        }
    }
}
