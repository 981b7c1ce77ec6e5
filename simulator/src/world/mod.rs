//! The simulated installation: a clock that jumps from event to event, and everybody who takes part.
//!
//! | file | who |
//! | --- | --- |
//! | `coordinator` | the real scheduler behind a writer that commits, fails, dies and starts again |
//! | `clients` | calls that are repeated until they are answered, and the network between |
//! | `workers` | processes with slots that lease, train, report, crash, hang, are cut off and leave |
//! | `people` | submissions, cancellations, retries, reruns, drains, pins; data sets that change, and who looks at them |

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use promptfield_core::scheduler::{Counts, Policy};
use promptfield_core::time::Timestamp;

use crate::audit::{Audit, Violation};
use crate::climate::Climate;
use crate::history::{History, Talk};
use crate::plans::{DATASETS, Plans};
use crate::random::Random;
use crate::wire::{Answer, Ask, Caller, Lists, Request, Work};

mod clients;
mod coordinator;
mod people;
mod workers;

use clients::Call;
use coordinator::Coordinator;
use people::People;
use workers::Worker;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few experiments and workers, in which everything is checked after every batch.
    Small,
    /// So many jobs, all submitted before the workers come, and so many workers.
    Large {
        /// Jobs.
        jobs: usize,
        /// Workers.
        workers: usize,
    },
}

/// A coordinator that is wrong on purpose, to see that it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It answers before the commit.
    AnswersBeforeCommit,
    /// It takes a report under any lease for one under the latest.
    IgnoresTokens,
    /// When it rebuilds its state, the last job's row is left out.
    ForgetsAJob,
    /// When it rebuilds its state, what was learned of jobs' memory is left out.
    ForgetsWhatItLearned,
    /// When it rebuilds its state, which results were superseded is left out.
    ForgetsWhatWasSuperseded,
    /// When it rebuilds its state, what was read of the data sets is left out.
    ForgetsWhatWasRead,
    /// When it rebuilds its state, what machines can't use is left out.
    ForgetsFaults,
    /// It takes what a machine can't use for its jobs' failure.
    BlamesJobs,
    /// It counts each lost worker as a failure, however far its attempt had got.
    CountsEveryLoss,
    /// It drops superseded results.
    DropsSuperseded,
    /// It hears a report of an attempt from before its job was computed again.
    HearsFromBefore,
    /// It records a completion again when it is reported again.
    RecordsTwice,
    /// It keeps its state when a commit fails.
    KeepsWhatWasNotWritten,
    /// Its clock runs ahead when it lets time pass.
    EndsLeasesEarly,
    /// It never lets time pass.
    NeverTicks,
    /// It gives nobody a job.
    TurnsWorkersAway,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The source of all randomness.
    pub seed: u64,
    /// What is simulated.
    pub size: Size,
    /// Whether anything goes wrong.
    pub faults: bool,
    /// What is wrong with the coordinator.
    pub flaw: Option<Flaw>,
    /// How much of the history becomes text.
    pub talk: Talk,
}

/// A run without a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// A hash of all that happened.
    pub digest: u64,
    /// Lines of the history.
    pub lines: u64,
    /// Virtual milliseconds.
    pub virtual_ms: i64,
    /// The jobs, all at their end.
    pub counts: Counts,
    /// Commands that the scheduler carried out.
    pub commands: u64,
    /// Jobs granted, and jobs brought to an end.
    pub decisions: u64,
    /// Batches that reached the database.
    pub commits: u64,
    /// Times that the state was rebuilt.
    pub restores: u64,
    /// Crashes, hangs, partitions and good-byes of workers.
    pub blows: u64,
    /// Out-of-memory errors that were overlooked, since others ran beside.
    pub spared: usize,
    /// Results that were superseded, since their jobs were computed again.
    pub superseded: u64,
    /// How often a machine was found unable to use something.
    pub faults: u64,
    /// Losses of workers that didn't count as failures.
    pub uncounted: u64,
}

/// A violation, and how it came about.
#[derive(Debug, thiserror::Error)]
#[error("{violation}")]
pub struct Found {
    /// What was violated.
    pub violation: Violation,
    /// When, in virtual milliseconds.
    pub at: i64,
    /// The last lines of the history, as far as they were kept.
    pub history: Vec<String>,
}

/// The beginning of virtual time, so that no time is before 1970.
const EPOCH: i64 = 1_000_000_000_000;
/// How long after the last job's end late messages are still waited for.
const AFTERMATH: i64 = 120_000;
/// How often somebody looks after workers once the faults have stopped.
const ROUNDS: i64 = 60_000;

/// Something that will happen.
#[derive(Debug)]
enum Event {
    Arrives(Request),
    Answered {
        call: u64,
        attempt: u32,
        caller: Caller,
        answer: Answer,
    },
    GivesUp {
        call: u64,
        attempt: u32,
        caller: Caller,
    },
    Repeats {
        call: u64,
        caller: Caller,
    },
    Polls {
        worker: usize,
        life: u32,
        slot: usize,
        run: u32,
    },
    Beats {
        worker: usize,
        life: u32,
        slot: usize,
        run: u32,
    },
    Ends {
        worker: usize,
        life: u32,
        slot: usize,
        run: u32,
    },
    Starts {
        worker: usize,
    },
    Blow,
    Whim,
    Commits {
        life: u32,
    },
    Wakes,
    Dies,
    Revives,
    /// The faults stop.
    Calms,
    /// Somebody looks after the workers.
    Rounds,
    /// Perhaps it's over.
    Over,
}

#[derive(Debug)]
struct Due {
    at: i64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest; of two at the same time, the one that was planned first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What the history tells.
#[derive(Debug, Hash)]
enum Line<'a> {
    Applied { caller: Caller, ask: Ask, answer: &'a Answer },
    Written { changes: usize, sequence: u64 },
    NotWritten,
    WrittenButDenied,
    CoordinatorDies,
    CoordinatorStarts,
    Hears { caller: Caller, ask: Ask, answer: &'a Answer },
    Lost { caller: Caller, ask: Ask },
    Begins { worker: usize, slot: usize, work: Work },
    Stops { worker: usize, slot: usize, work: Work },
    WorkerStarts { worker: usize },
    WorkerDies { worker: usize },
    WorkerHangs { worker: usize, until: i64 },
    WorkerIsCutOff { worker: usize, until: i64 },
    WorkerLeaves { worker: usize },
    FaultsStop,
    DataChanges { dataset: usize, lists: Lists },
}

/// A whole installation.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    now: i64,
    queue: BinaryHeap<Due>,
    planned: u64,
    random: Random,
    climate: Climate,
    history: History,
    audit: Audit,
    coordinator: Coordinator,
    calls: HashMap<u64, Call>,
    next_call: u64,
    workers: Vec<Worker>,
    people: People,
    plans: Plans,
    /// The lists of each of [`DATASETS`], as they are on the disk now.
    data: [Lists; DATASETS.len()],
    /// When the faults stopped.
    calm_since: Option<i64>,
    /// How long after that everything must have come to its end.
    patience: i64,
    over: bool,
    commands: u64,
    commits: u64,
    restores: u64,
    blows: u64,
}

impl World {
    /// An installation at the beginning of its time.
    pub fn new(settings: Settings) -> Result<Self, Found> {
        let mut random = Random::new(settings.seed);
        let policy = Policy::default();
        let (plans, workers, climate) = match settings.size {
            Size::Small => {
                let climate = if settings.faults { Climate::drawn(&mut random) } else { Climate::fair() };
                (Plans::small(&mut random), random.between(1..=6) as usize, climate)
            }
            Size::Large { jobs, workers } => {
                let climate = if settings.faults { Climate::rough() } else { Climate::fair() };
                (Plans::large(jobs), workers, climate)
            }
        };
        let at_the_start = |error: promptfield_core::input::InvalidInput| Found {
            violation: error.into(),
            at: 0,
            history: Vec::new(),
        };
        let plans = plans.map_err(at_the_start)?;
        let small = settings.size == Size::Small;
        let workers = (0..workers).map(|place| Worker::new(place, small, &mut random)).collect();
        let mut world = Self {
            settings,
            now: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            random,
            climate,
            history: History::new(settings.talk),
            audit: Audit::new(policy.clone(), small),
            // Without faults nothing is ever read back.
            coordinator: Coordinator::new(policy, settings.flaw, settings.faults || small),
            calls: HashMap::new(),
            next_call: 0,
            workers,
            people: People::default(),
            plans,
            data: [Lists::first(); DATASETS.len()],
            calm_since: None,
            patience: 0,
            over: false,
            commands: 0,
            commits: 0,
            restores: 0,
            blows: 0,
        };
        world.submit_first();
        if small {
            world.workers_come(120_000);
            world.troubles_begin();
        }
        Ok(world)
    }

    /// Runs until every experiment of a large world is submitted, and nothing else is under way.
    pub fn until_submitted(&mut self) -> Result<(), Found> {
        while self.people.waiting > 0 && self.step()? {}
        Ok(())
    }

    /// Runs to the end.
    pub fn until_over(mut self) -> Result<Summary, Found> {
        if self.settings.size != Size::Small {
            self.workers_come(10_000);
            self.troubles_begin();
        }
        while !self.over && self.step()? {}
        self.at_the_end().map_err(|violation| self.found(violation))?;
        Ok(Summary {
            digest: self.history.digest(),
            lines: self.history.lines(),
            virtual_ms: self.now,
            counts: self.audit.counts(),
            commands: self.commands,
            decisions: self.audit.decisions(),
            commits: self.commits,
            restores: self.restores,
            blows: self.blows,
            spared: self.audit.spared(),
            superseded: self.audit.superseded(),
            faults: self.audit.faults().0,
            uncounted: self.audit.faults().1,
        })
    }

    /// Commands that the scheduler has carried out so far.
    pub const fn commands(&self) -> u64 {
        self.commands
    }

    /// Jobs that were submitted so far.
    pub const fn jobs(&self) -> usize {
        self.audit.jobs()
    }

    /// Bytes of the jobs' notes that only the checks need.
    pub fn bytes_of_checks(&self) -> usize {
        self.audit.bytes()
    }

    /// How long matrices were expanded, of this process's time.
    pub const fn expanding(&self) -> Duration {
        self.plans.expanding()
    }

    fn workers_come(&mut self, within: i64) {
        for worker in 0..self.workers.len() {
            let delay = self.random.between(0..=within);
            self.plan(delay, Event::Starts { worker });
        }
    }

    /// Plans the first of each kind of fault, and their end.
    fn troubles_begin(&mut self) {
        let lasts = match self.settings.size {
            _ if !self.settings.faults => 0,
            Size::Small => self.random.between(300_000..=1_800_000),
            Size::Large { .. } => 1_200_000,
        };
        self.plan(lasts, Event::Calms);
        if self.settings.faults {
            self.next_blow();
            self.next_whim();
            self.next_death();
        }
    }

    fn plan(&mut self, delay: i64, event: Event) {
        self.planned += 1;
        self.queue.push(Due { at: self.now + delay.max(0), number: self.planned, event });
    }

    const fn time(&self) -> Timestamp {
        Timestamp(EPOCH + self.now)
    }

    /// Lets the next event happen; false if there is none.
    fn step(&mut self) -> Result<bool, Found> {
        let Some(Due { at, event, .. }) = self.queue.pop() else { return Ok(false) };
        self.now = at;
        self.happens(event).map_err(|violation| self.found(violation))?;
        Ok(true)
    }

    fn found(&self, violation: Violation) -> Found {
        Found { violation, at: self.now, history: self.history.kept() }
    }

    fn happens(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(thaws) = self.frozen_until(&event) {
            self.plan(thaws - self.now, event);
            return Ok(());
        }
        match event {
            Event::Arrives(request) => self.arrives(request)?,
            Event::Answered { call, attempt, caller, answer } => self.answered(call, attempt, caller, answer)?,
            Event::GivesUp { call, attempt, caller } => self.gives_up(call, attempt, caller),
            Event::Repeats { call, .. } => self.attempt(call),
            Event::Polls { worker, life, slot, run } => {
                if self.is_at(worker, life, slot, run) {
                    self.poll(worker, slot);
                }
            }
            Event::Beats { worker, life, slot, run } => {
                if self.is_at(worker, life, slot, run) {
                    self.beats(worker, slot);
                }
            }
            Event::Ends { worker, life, slot, run } => {
                if self.is_at(worker, life, slot, run) {
                    self.job_ends(worker, slot);
                }
            }
            Event::Starts { worker } => self.worker_starts(worker),
            Event::Blow => self.blow(),
            Event::Whim => self.whim(),
            Event::Commits { life } => self.commits(life)?,
            Event::Wakes => self.wakes()?,
            Event::Dies => self.dies(),
            Event::Revives => self.revives()?,
            Event::Calms => self.calms(),
            Event::Rounds => self.rounds()?,
            Event::Over => self.over = self.is_quiet(),
        }
        Ok(())
    }

    fn calms(&mut self) {
        self.climate = self.climate.calmed();
        self.calm_since = Some(self.now);
        // Every job may fail five times, each time as slowly as can be; in a small world perhaps all in one slot.
        let in_turn = match self.settings.size {
            Size::Small => 1,
            Size::Large { workers, .. } => workers,
        };
        let turns = (5 * self.audit.open()).div_ceil(in_turn.max(1));
        self.patience = 4 * 3_600_000 + i64::try_from(turns).unwrap_or(i64::MAX).saturating_mul(workers::LONGEST_JOB);
        self.history.note(self.now, Line::FaultsStop);
        self.plan(0, Event::Rounds);
        if self.settings.size == Size::Small {
            // The first has all weights, so that every job finds somebody in the end.
            self.pin_as(0);
        }
    }

    /// Brings the workers back that are down or drained, and looks whether everything has come to its end.
    fn rounds(&mut self) -> Result<(), Violation> {
        self.tend_workers();
        self.plan(ROUNDS, Event::Rounds);
        if self.is_quiet() {
            self.plan(AFTERMATH, Event::Over);
        }
        let since = self.now - self.calm_since.unwrap_or(self.now);
        if since <= self.patience {
            return Ok(());
        }
        if let Some((job, state)) = self.audit.first_open() {
            let because = self.coordinator.explain(job, self.time());
            return Err(Violation::Waits { job, state, hours: since / 3_600_000, because });
        }
        Err(Violation::Unanswered(self.people.waiting))
    }

    const fn is_quiet(&self) -> bool {
        self.audit.open() == 0 && self.people.waiting == 0
    }

    fn at_the_end(&self) -> Result<(), Violation> {
        if let Some((job, state)) = self.audit.first_open() {
            let because = self.coordinator.explain(job, self.time());
            return Err(Violation::Waits { job, state, hours: 0, because });
        }
        if !self.audit.is_all_there() {
            return Err(Violation::ResultsLost);
        }
        self.inspect()
    }
}
