//! Deciding who runs what.
//!
//! [`Scheduler::apply`] takes a command and the time and gives an answer and a list of changes; a rejected command changes
//! nothing. It is the only way the state moves, except for [`Scheduler::restore`], which rebuilds it from the rows that
//! the changes made. Waiting jobs stand in lanes, so that leasing looks at a few lanes and not at jobs; everything that must
//! happen at a certain time lies in an ordered set.
//!
//! | file | what |
//! | --- | --- |
//! | `command` | the vocabulary: commands, replies, changes |
//! | `batch` | what the writer does with requests that it deals with together |
//! | `state` | a job's states and the table of legal transitions |
//! | `transition` | a job moves from one state to another, and every index with it |
//! | `query` | what others read of the state |
//! | `jobs` | all jobs, in little memory |
//! | `queue` | the order of those that wait |
//! | `submit` | experiments come in |
//! | `kin` | which jobs look at the same images, and go where these were seen |
//! | `lease` | workers take, renew and give back jobs; time passes |
//! | `load` | what a worker can take beside what it holds |
//! | `finish` | results and failures |
//! | `faults` | what machines were found unable to do |
//! | `setbacks` | how far lost attempts came, and whose hands folders are in |
//! | `shape` | how much memory jobs take, estimated and learned |
//! | `control` | people cancel and retry |
//! | `rerun` | jobs that have a result are computed again |
//! | `stale` | which results rest on something else than what holds today |
//! | `restore` | the state from the database's rows, and what must always hold |
//! | `rows` | the rows that changes leave behind, as a database has them |
//! | `explain` | why a job waits, or why it failed |
//! | `durations` | how long jobs take |
//! | `forecast` | how long what is left will take |
//! | `pilots` | workers that are started on demand |
//! | `demand` | how many of them jobs could keep busy |

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

pub mod batch;
mod command;
mod control;
mod demand;
mod durations;
pub mod estimate;
mod explain;
mod faults;
mod finish;
mod forecast;
mod jobs;
mod kin;
mod lease;
mod load;
pub mod machine_fault;
pub mod pilot_records;
mod pilots;
mod query;
mod queue;
mod rerun;
mod restore;
mod rows;
mod setbacks;
mod shape;
mod stale;
mod state;
mod submit;
#[cfg(test)]
mod tests;
mod transition;

pub use command::{
    Attempt, AttemptEnd, Change, Command, Event, EventKind, ExperimentRecord, Grant, Held, JobChange, JobRecord, Link,
    Rejection, Reply, Submitted, WorkerDescription, WorkerRecord, WorkerState,
};
pub use durations::Took;
pub use explain::{Explanation, SILENT_S};
pub use forecast::{Forecast, Preview, Spent};
pub use rerun::RerunWhich;
pub use rows::{Misfit, Rows};
pub use setbacks::{Holder, Setback};
pub use shape::{Need, shape};
pub use state::{Counts, JobState, JobStateName, Lease};

use durations::Durations;
use jobs::Jobs;
use pilots::Fleet;
use queue::{GroupKey, LaneKey, NameId, Names, Queue, Spot};
use shape::{ShapeId, Shapes};
use stale::Today;

use crate::id::{ExperimentId, JobId, LeaseId, RecipeId, WorkerId};
use crate::job::basis::Basis;
use crate::job::spec::{Recipe, SpecHash};
use crate::method::Methods;
use crate::protocol::Stage;
use crate::scheduler::machine_fault::{FaultKey, MachineFault};
use crate::time::Timestamp;

/// The scheduler's numbers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a lease lasts without a word from its worker, in milliseconds.
    pub lease_ms: i64,
    /// The wait after a job's first failed attempt, in milliseconds; it doubles with each further one.
    pub backoff_ms: i64,
    /// The longest wait, in milliseconds.
    pub longest_backoff_ms: i64,
    /// A job that has failed so often has failed for good.
    pub most_failures: u32,
    /// A job that has taken so many workers along gets the next one for itself.
    pub losses_until_alone: u32,
    /// What is known of the methods.
    pub methods: Arc<Methods>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            backoff_ms: 1_000,
            longest_backoff_ms: 60_000,
            most_failures: 5,
            losses_until_alone: 2,
            methods: Arc::clone(Methods::built_in()),
        }
    }
}

/// All live scheduling state.
#[derive(Debug)]
pub struct Scheduler {
    policy: Policy,
    experiments: BTreeMap<ExperimentId, ExperimentEntry>,
    by_experiment_hash: HashMap<SpecHash, ExperimentId>,
    /// By identifier, without gaps from 1 on.
    recipes: Vec<RecipeEntry>,
    by_recipe: HashMap<SpecHash, RecipeId>,
    jobs: Jobs,
    /// The job of each lease, by the lease's number; `None` for what an earlier run granted and has granted anew since.
    leases: Vec<Option<JobId>>,
    workers: BTreeMap<WorkerId, WorkerEntry>,
    last_worker: WorkerId,
    /// Those that are here, by name.
    by_name: HashMap<String, WorkerId>,
    /// How many jobs run for each user.
    users: HashMap<Option<String>, usize>,
    /// Queued jobs whose back-off is over.
    queue: Queue,
    /// What must happen at a certain time.
    alarms: BTreeSet<(Timestamp, Alarm)>,
    /// Backbones, and places: backbones with data sets.
    names: Names,
    /// How much memory jobs take.
    shapes: Shapes,
    /// Jobs of which an out-of-memory error was overlooked.
    spared: BTreeSet<JobId>,
    /// The artefacts from which jobs go on that were given back; none of a job that has ended.
    unfinished: BTreeMap<JobId, String>,
    /// What machines were found unable to use, by host.
    faults: BTreeMap<String, BTreeMap<FaultKey, MachineFault>>,
    /// Whether some jobs may have lost the last worker that can do them.
    faults_changed: bool,
    /// What became of attempts that were broken off, of jobs that are open.
    setbacks: BTreeMap<JobId, Setback>,
    /// Jobs of which a result was superseded: the next attempt adopts no folder of theirs, and none of a test of theirs.
    superseded: BTreeSet<JobId>,
    /// What results rest on, by a place among `bases`; of those with a manifest.
    basis_of: HashMap<JobId, u32>,
    bases: Vec<Basis>,
    by_basis: HashMap<Basis, u32>,
    /// What results are compared with.
    today: Today,
    /// How long jobs take.
    durations: Durations,
    /// Workers that are started on demand.
    fleet: Fleet,
    /// The recipes of each place, the oldest first.
    by_place: HashMap<NameId, Vec<RecipeId>>,
    /// By host: jobs that see the images which its workers have just seen, the latest first.
    kin: HashMap<String, VecDeque<JobId>>,
    next_sequence: u64,
    /// What the command at hand has changed so far.
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// A job's back-off is over.
    Ready(JobId),
    /// A job's lease ends.
    Expire(JobId, LeaseId),
    /// A worker may have been silent for too long.
    Silent(WorkerId),
    /// A worker has been gone for long.
    Forget(WorkerId),
}

#[derive(Debug, PartialEq)]
struct ExperimentEntry {
    record: ExperimentRecord,
    links: Vec<Link>,
    counts: Counts,
}

/// A recipe with what the choice of a worker looks at.
#[derive(Debug)]
struct RecipeEntry {
    recipe: Arc<Recipe>,
    backbone: NameId,
    /// Its backbone with its data set.
    place: NameId,
    /// By stage: to train, and otherwise.
    shapes: [ShapeId; 2],
}

/// A worker with what it is at.
#[derive(Debug)]
struct WorkerEntry {
    record: WorkerRecord,
    kind: WorkerKind,
    backbones: Vec<NameId>,
    last_seen: Timestamp,
    /// Since when it has held nothing, while it holds nothing.
    idle_since: Timestamp,
    /// When it will be ended from outside.
    ends_at: Option<Timestamp>,
    held: BTreeSet<JobId>,
    /// Whether it may have had a job, or is a pilot.
    used: bool,
    /// Where its last jobs were, the latest first: the weights, the split and the images lie in its memory.
    warm: VecDeque<NameId>,
    /// Jobs that test a checkpoint which it has made lately, and so needn't fetch.
    fresh: VecDeque<JobId>,
}

/// What a worker can run: workers of one kind have the same backbones and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerKind(NameId);

impl Scheduler {
    /// A scheduler without jobs.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            experiments: BTreeMap::new(),
            by_experiment_hash: HashMap::new(),
            recipes: Vec::new(),
            by_recipe: HashMap::new(),
            jobs: Jobs::default(),
            leases: Vec::new(),
            workers: BTreeMap::new(),
            last_worker: WorkerId(0),
            by_name: HashMap::new(),
            users: HashMap::new(),
            queue: Queue::default(),
            alarms: BTreeSet::new(),
            names: Names::default(),
            shapes: Shapes::default(),
            spared: BTreeSet::new(),
            unfinished: BTreeMap::new(),
            faults: BTreeMap::new(),
            faults_changed: false,
            setbacks: BTreeMap::new(),
            superseded: BTreeSet::new(),
            basis_of: HashMap::new(),
            bases: Vec::new(),
            by_basis: HashMap::new(),
            today: Today::default(),
            durations: Durations::default(),
            fleet: Fleet::default(),
            by_place: HashMap::new(),
            kin: HashMap::new(),
            next_sequence: 1,
            changes: Vec::new(),
        }
    }

    /// Carries `command` out. The changes must be durable before the reply is sent.
    pub fn apply(&mut self, command: Command, now: Timestamp) -> (Vec<Change>, Result<Reply, Rejection>) {
        let reply = match command {
            Command::Submit { experiment, jobs, by } => Ok(self.submit(*experiment, jobs, by, now)),
            Command::Register(description) => self.register(*description, now),
            Command::Lease { worker, slots } => self.lease(worker, slots, now),
            Command::Progress { held, progress } => self.progress(held, progress, now),
            Command::Complete { held, outcome, evaluation, memory_mib } => {
                self.complete(held, *outcome, evaluation, memory_mib, now)
            }
            Command::Fail { held, failure, cause } => self.fail(held, failure, cause, now),
            Command::Release { held, unfinished } => self.release(held, unfinished, now),
            Command::Drain { worker } => self.drain(worker, now),
            Command::Leave { worker } => self.leave(worker, now),
            Command::CancelJobs(jobs) => self.cancel_jobs(&jobs, now),
            Command::CancelExperiment(experiment) => self.cancel_experiment(experiment, now),
            Command::RetryJobs(jobs) => self.retry_jobs(&jobs, now),
            Command::RetryExperiment(experiment) => self.retry_experiment(experiment, now),
            Command::RerunJobs { jobs, shared } => self.rerun_jobs(&jobs, shared, now),
            Command::RerunExperiment { experiment, which, shared } => {
                self.rerun_experiment(experiment, which, shared, now)
            }
            Command::Look(findings) => self.look(&findings, now),
            Command::Pin { backbone, sha256 } => {
                self.pin(&backbone, sha256);
                Ok(Reply::Done)
            }
            Command::Recheck { host } => Ok(self.recheck(host.as_deref())),
            Command::SetPool { name, settings, from_file } => {
                self.set_pool(name, *settings, from_file, now);
                Ok(Reply::Done)
            }
            Command::EndPool(name) => self.end_pool(&name, now),
            Command::ResumePool(name) => self.resume_pool(&name, now),
            Command::Scale { launcher, batches } => Ok(Reply::Steps(self.scale(launcher, batches, now))),
            Command::Launched { batch, launch } => {
                self.launched(&batch, launch, now);
                Ok(Reply::Done)
            }
            Command::Sight { launcher, asked_at, seen } => Ok(Reply::Steps(self.sight(launcher, asked_at, seen, now))),
            Command::Tick => {
                self.tick(now);
                Ok(Reply::Done)
            }
        };
        self.fail_what_nobody_can(now);
        (std::mem::take(&mut self.changes), reply)
    }
}

impl RecipeEntry {
    fn new(recipe: Arc<Recipe>, names: &mut Names, shapes: &mut Shapes, methods: &Methods) -> Self {
        let backbone = names.number(&recipe.backbone);
        let place = names.number(&format!("{} {}", recipe.backbone, recipe.dataset));
        let shapes = [Stage::Train, Stage::Test].map(|stage| shapes.number(&recipe, stage, methods));
        Self { recipe, backbone, place, shapes }
    }

    const fn shape_of(&self, stage: Stage) -> ShapeId {
        let [to_train, otherwise] = self.shapes;
        if matches!(stage, Stage::Train) { to_train } else { otherwise }
    }
}

/// The identity of a recipe.
fn identity(recipe: &Recipe) -> SpecHash {
    use sha2::{Digest, Sha256};
    SpecHash(Sha256::digest(serde_json::json!(recipe).to_string()).into())
}
