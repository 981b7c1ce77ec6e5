//! The agent on a machine that trains: takes jobs from a coordinator, has trainers compute them, reports.
//!
//! Rule of this crate: it knows the coordinator by HTTP only and the trainer by JSON lines only, and decides nothing about
//! scheduling. It outlives both: a coordinator that is away is waited for while jobs go on, and a trainer that dies costs one
//! attempt of one job. Every state lives in one task's stack: [`Worker::run`] runs the slots side by side and returns when
//! all are done.
//!
//! | file | what |
//! | --- | --- |
//! | `options` | the settings and their checks |
//! | `coordinator` | the coordinator, and patience with it |
//! | `mailbox` | reports of all slots, gathered into requests |
//! | `program` | a program whose file may be replaced |
//! | `registration` | the worker's identifier, which can change |
//! | `pilot` | a worker that was started on demand |
//! | `devices` | which devices there are, and how trainers are started for them |
//! | `load` | what the devices are at |
//! | `memory` | how much memory jobs take, and how much there is |
//! | `slot` | a slot's life: lease, run, replace a dead trainer |
//! | `job` | a job's life: places, trainer, lease, delivery |
//! | `places` | from a job's names to this machine's paths |
//! | `checkpoint` | checkpoints from and to other machines |
//! | `unfinished` | what a training that was given back had done, from and to other machines |
//! | `spool` | results that the coordinator hasn't answered yet, on disk |
//! | `report` | what a running job tells the coordinator |
//! | `trainer` | the trainer process and its pipes |

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use promptfield_client::ConnectionError;
use promptfield_core::VERSION;
use promptfield_core::id::WorkerId;
use promptfield_core::job::spec::{BasisHash, hex};
use promptfield_core::method::Method;
use promptfield_core::scheduler::WorkerDescription;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod checkpoint;
mod coordinator;
mod devices;
mod evaluation;
mod job;
mod load;
mod mailbox;
mod memory;
mod name;
mod options;
mod pilot;
mod places;
mod program;
mod registration;
mod report;
mod silence;
mod slot;
mod spool;
mod trainer;
mod unfinished;

pub use coordinator::Rejected;
pub use options::{Caches, Machine, Options, OptionsError};
pub use pilot::{Pilot, slurm_time_left};
pub use program::Program;
pub use trainer::TrainerDeath;

use coordinator::Coordinator;
use memory::Gauge;
use name::Name;
use pilot::Deadline;
use registration::Registration;
use silence::Steps;
use spool::Spool;
use trainer::{Found, Trainer};

/// How long each last call to the coordinator may take when the worker shuts down.
const LAST_CALL: Duration = Duration::from_secs(1);

/// So long after a worker began to shut down, what its jobs have done is no longer handed over: stopping the trainers may have
/// taken most of it, and what comes after may take as long again.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(4);

/// A worker couldn't start, or couldn't go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A setting is wrong.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No client of the coordinator could be made.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// No trainer can be started for a slot.
    #[error("slot {slot} has no trainer")]
    Trainer {
        /// The slot, counted from 0.
        slot: usize,
        /// How the last one ended.
        source: TrainerDeath,
    },
    /// Nobody answered for as long as a pilot waits.
    #[error("the coordinator has been out of reach for {seconds} s")]
    OutOfReach {
        /// How long.
        seconds: u64,
    },
    /// The coordinator doesn't want this worker.
    #[error("the coordinator turned this worker away")]
    Refused {
        /// Its answer.
        source: Rejected,
    },
}

/// How a worker is told to end.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// Now: what it's at is given back.
    pub shutdown: CancellationToken,
    /// Soon: a pilot takes no more jobs, and gives back what isn't done [`Pilot::lead`] from then on.
    pub ending: CancellationToken,
}

/// The agent.
#[derive(Debug)]
pub struct Worker;

/// What the slots of a worker share.
#[derive(Debug)]
struct Agent {
    options: Options,
    trainer: Program,
    /// Which slices of GPUs the slots' trainers are started for, by turns.
    slices: Vec<String>,
    coordinator: Coordinator,
    registration: Registration,
    spool: Spool,
    gauge: Gauge,
    steps: Steps,
    /// Cancelled from outside, or when a slot can't go on.
    shutdown: CancellationToken,
    /// When that was.
    shut_down_at: OnceLock<Instant>,
    /// Cancelled from outside when the worker's end is near.
    ending: CancellationToken,
    /// Cancelled when the worker takes no more jobs: it ends with those that it has.
    drain: CancellationToken,
    deadline: Deadline,
    /// How many slots compute.
    busy: AtomicUsize,
    /// When the worker started: all slots' reports keep to one beat, so that they travel together.
    start: Instant,
}

impl Worker {
    /// Runs a worker until it's told to stop, or until it can't go on; a pilot also until nobody wants it.
    ///
    /// Waits for a coordinator that isn't there, at the start and at any time later. On [`Stops::shutdown`] it takes no more jobs,
    /// stops those that run (their last epoch's state is kept, and handed over where others can't reach it), gives them back, says
    /// goodbye and ends its trainers; that takes at most 10 seconds, whether or not the coordinator answers. Results that it
    /// couldn't deliver are delivered by the next worker of the same name.
    pub async fn run(mut options: Options, stops: Stops) -> Result<(), WorkerError> {
        let Stops { shutdown, ending } = stops;
        options.check()?;
        let output_root = &options.machine.output_root;
        let unwritable = |source| OptionsError::OutputRoot { path: output_root.clone(), source };
        let taken = Name::take(output_root, &options.name).map_err(unwritable)?;
        options.name.clone_from(&taken.name);
        let trainer = Program::open(&options.trainer).map_err(|source| OptionsError::Trainer { source })?;
        let time_left = options.pilot.as_ref().and_then(|pilot| pilot.time_left);
        let deadline = Deadline::new(time_left.map(|left| Instant::now() + left));
        let coordinator = Coordinator::new(&options.coordinator, &options.connection)?;
        let slices = devices::slices(options.visible_gpus.as_deref(), &options.devices);
        let starting = try_join_all((0..options.slots).map(async |slot| {
            let started = start_trainer(&options, &trainer, &slices, slot, slot == 0).await;
            started.map_err(|source| WorkerError::Trainer { slot, source })
        }));
        let (trainers, found): (Vec<_>, Vec<_>) = tokio::select! {
            started = starting => started?.into_iter().unzip(),
            () = shutdown.cancelled() => return Ok(()),
        };
        let found = found.into_iter().next().unwrap_or_default();
        let devices = devices::choose(&options.devices, &slices, &found.devices)?;
        options.machine.leave_out(&found.unusable)?;
        let names: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
        let gauge = Gauge::new(&names, options.visible_gpus.as_deref());
        let description = describe(&options, &names, &gauge, found.backbone_sha256, found.methods);
        let spool = Spool::of(&options);
        let registering = async {
            spool.deliver(&coordinator, &options.machine).await;
            Registration::new(&coordinator, description, &deadline).await
        };
        let patience = options.pilot.as_ref().map(|pilot| pilot.leave_after);
        let registration = tokio::select! {
            registration = registering => Some(registration),
            () = shutdown.cancelled() => None,
            // Nobody else would end it.
            seconds = out_of_patience(patience) => return Err(WorkerError::OutOfReach { seconds }),
        };
        let Some(registration) = registration else {
            join_all(trainers.into_iter().map(Trainer::stop)).await;
            return Ok(());
        };
        let (registration, registered) = registration.map_err(|source| WorkerError::Refused { source })?;
        options.machine.find_out_sharing(registered.marker.as_deref());
        let agent = Agent {
            options,
            trainer,
            slices,
            coordinator,
            registration,
            spool,
            gauge,
            steps: Steps::default(),
            shutdown: shutdown.child_token(),
            shut_down_at: OnceLock::new(),
            ending,
            drain: CancellationToken::new(),
            deadline,
            busy: AtomicUsize::new(0),
            start: Instant::now(),
        };
        let slots = trainers.into_iter().zip(devices.iter().cycle()).enumerate();
        let slots = join_all(slots.map(async |(slot, (trainer, device))| {
            let end = slot::run(&agent, slot, device, trainer).await;
            if end.is_err() {
                agent.shutdown.cancel();
            }
            end
        }));
        let slots = async {
            let ends = slots.await;
            agent.shutdown.cancel();
            ends
        };
        let (ends, (), (), ()) =
            tokio::join!(slots, agent.note_shutdown(), load::report(&agent, &names), pilot::tend(&agent));
        agent.leave().await;
        ends.into_iter().collect()
    }
}

fn describe(
    options: &Options,
    devices: &[String],
    gauge: &Gauge,
    backbone_sha256: BTreeMap<String, BasisHash>,
    methods: BTreeMap<Method, BasisHash>,
) -> WorkerDescription {
    WorkerDescription {
        name: options.name.clone(),
        host: options.host.clone(),
        output_root: output_root(options),
        places: places_of(&options.machine),
        slots: options.slots,
        devices: devices.to_vec(),
        backbones: options.machine.backbones.keys().cloned().collect(),
        backbone_sha256,
        methods,
        version: VERSION.to_owned(),
        labels: options.labels.clone(),
        memory_mib: options.memory_mib.or_else(|| gauge.total_mib(devices)),
        pilot: options.pilot.as_ref().map(|pilot| pilot.key.clone()),
        time_left_ms: None,
    }
}

/// The output root as all workers of this machine name it.
fn output_root(options: &Options) -> String {
    let given = &options.machine.output_root;
    fs_err::canonicalize(given).unwrap_or_else(|_| given.clone()).display().to_string()
}

/// A hash of where data sets and weights lie: workers with the same one can use the same.
fn places_of(machine: &Machine) -> String {
    let Machine { data_root, backbones, datasets, .. } = machine;
    let weights: Vec<_> = backbones.iter().map(|(name, file)| (name, &file.weights)).collect();
    let places = serde_json::json!([data_root, datasets, weights]).to_string();
    hex(&Sha256::digest(places)[..8])
}

/// A trainer for a slot, and what it found; `first` has it find out which backbones there are.
async fn start_trainer(
    options: &Options,
    trainer: &Program,
    slices: &[String],
    slot: usize,
    first: bool,
) -> Result<(Trainer, Found), TrainerDeath> {
    let own = slices.get(slot.checked_rem(slices.len()).unwrap_or_default()).map(String::as_str);
    let backbones = first.then_some(&options.machine.backbones);
    Trainer::start(&trainer.to_run(), options.threads(), &options.caches, own, (slot, backbones)).await
}

/// Returns after so long; never, if it's of no matter.
async fn out_of_patience(patience: Option<Duration>) -> u64 {
    match patience {
        Some(patience) => {
            tokio::time::sleep(patience).await;
            patience.as_secs()
        }
        None => std::future::pending().await,
    }
}

/// A slot computes, as long as this lives. What it then waits for with a result that is on the disk keeps nobody here.
struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Agent {
    /// Returns when no more jobs are to be taken.
    async fn wants_no_more(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.drain.cancelled() => {}
        }
    }

    fn busy(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(&self.busy)
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Registers anew, unless that was done since `unknown` was this worker. A pilot that isn't wanted any more ends.
    async fn renew(&self, unknown: WorkerId, reason: &str) -> Result<(), Rejected> {
        let renewed = self.registration.renew(&self.coordinator, &self.deadline, unknown, reason).await;
        if let (Err(Rejected::Stale(reason)), Some(_)) = (&renewed, &self.options.pilot) {
            tracing::info!("{reason}");
            self.shutdown.cancel();
        }
        renewed
    }

    /// The next beat of so many seconds after `now`.
    fn next_beat(&self, now: Instant, period: Duration) -> Instant {
        let beats = now.duration_since(self.start).as_nanos() / period.as_nanos().max(1) + 1;
        self.start + period.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX))
    }

    async fn note_shutdown(&self) {
        self.shutdown.cancelled().await;
        self.shut_down_at.get_or_init(Instant::now);
    }

    /// When a worker that shuts down lets go of what its jobs have done, if it couldn't hand it over by then.
    fn hands_over_until(&self) -> Instant {
        self.shut_down_at.get().copied().unwrap_or_else(Instant::now) + HAND_OVER_LIMIT
    }

    /// Runs `call` to its end; once the worker shuts down it has a second left.
    async fn unless_shut_down<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            value = call => Some(value),
            () = async {
                self.shutdown.cancelled().await;
                tokio::time::sleep(LAST_CALL).await;
            } => None,
        }
    }

    /// Says goodbye; what this worker still holds is then given to others at once.
    async fn leave(&self) {
        let worker = self.registration.current().await;
        match self.unless_shut_down(self.coordinator.until_answered(|| self.coordinator.client.leave(worker))).await {
            Some(Ok(())) => tracing::info!(%worker, "worker {worker} has left"),
            Some(Err(rejected)) => tracing::debug!(%worker, "worker {worker} was gone already: {rejected}"),
            None => tracing::warn!(%worker, "worker {worker} could not say goodbye: the coordinator is out of reach"),
        }
    }
}
