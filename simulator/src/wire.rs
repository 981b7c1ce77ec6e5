//! What the simulated parties say to each other.

use promptfield_core::id::{ExperimentId, FencingToken, JobId, LeaseId, WorkerId};
use promptfield_core::job::outcome::FailureClass;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::scheduler::{Held, RerunWhich};

/// What names no lease.
pub(crate) const NO_LEASE: Held = Held { lease: LeaseId(0), token: FencingToken(0) };

/// A hash of something of a kind, in one of its versions.
pub(crate) const fn sha256(kind: u8, version: u8) -> BasisHash {
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (kind, version);
    BasisHash(bytes)
}

/// A data set's lists, as a machine finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lists {
    pub(crate) split: BasisHash,
    pub(crate) test: BasisHash,
}

impl Lists {
    /// As they are before anybody changes them.
    pub(crate) const fn first() -> Self {
        Self::of(1, 1)
    }

    /// With these versions of the training lists and of the test list.
    pub(crate) const fn of(train: u8, test: u8) -> Self {
        Self { split: sha256(train, test), test: sha256(0, test) }
    }
}

/// What a result rests on.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct On {
    pub(crate) weights: BasisHash,
    pub(crate) lists: Lists,
    /// Whether its manifest says which test list it was.
    pub(crate) says_test: bool,
}

/// What an attempt failed for that isn't the job's own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lacks {
    Nothing,
    Checkpoint,
    /// The machine has these weights instead.
    Backbone(BasisHash),
    /// The machine can't use something that the job needs.
    Machine(Unable),
    /// Somebody else has the job's folder.
    Folder,
}

/// What a machine can't use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unable {
    OutputRoot,
    /// A data set, by its place.
    Dataset(usize),
    /// A backbone, by its place.
    Backbone(usize),
    /// Just this job.
    Job,
}

/// How many epochs are completed after so many steps.
pub(crate) const fn epoch(step: u64) -> u32 {
    (step / 3) as u32
}

/// A request to the coordinator.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Ask {
    /// An experiment, by its place among the plans.
    Submit(usize),
    /// A worker, by its place.
    Register(usize),
    Lease {
        worker: WorkerId,
        slots: usize,
    },
    Progress {
        lease: LeaseId,
        token: FencingToken,
        step: u64,
    },
    Complete {
        lease: LeaseId,
        token: FencingToken,
        adopted: bool,
        memory_mib: Option<u32>,
        on: Option<On>,
    },
    Fail {
        lease: LeaseId,
        token: FencingToken,
        class: FailureClass,
        lacks: Lacks,
    },
    Release {
        lease: LeaseId,
        token: FencingToken,
    },
    Drain(WorkerId),
    Leave(WorkerId),
    CancelJob(JobId),
    CancelExperiment(ExperimentId),
    RetryJob(JobId),
    RetryExperiment(ExperimentId),
    RerunJob {
        job: JobId,
        shared: bool,
    },
    RerunExperiment {
        experiment: ExperimentId,
        which: RerunWhich,
        shared: bool,
    },
    /// A machine is given again what it was found unable to do.
    Recheck(usize),
    /// A machine has read the lists of a job.
    Look {
        job: JobId,
        lists: Lists,
    },
    Pin {
        /// The backbone's place.
        backbone: usize,
        weights: BasisHash,
    },
}

impl Ask {
    /// The lease that it is about.
    pub(crate) const fn held(self) -> Option<Held> {
        match self {
            Self::Progress { lease, token, .. }
            | Self::Complete { lease, token, .. }
            | Self::Fail { lease, token, .. }
            | Self::Release { lease, token } => Some(Held { lease, token }),
            _ => None,
        }
    }
}

/// What a worker learns of a job.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Work {
    pub(crate) lease: LeaseId,
    pub(crate) token: FencingToken,
    pub(crate) job: JobId,
    pub(crate) trains: bool,
    /// Whether it tests a checkpoint.
    pub(crate) tests: bool,
    /// The places of its data set and of its backbone.
    pub(crate) dataset: usize,
    pub(crate) backbone: usize,
    /// The weights that it asks for.
    pub(crate) pinned: Option<BasisHash>,
    /// Whether no folder is to be adopted.
    pub(crate) afresh: bool,
    pub(crate) ttl_ms: i64,
}

/// The coordinator's answer, or what a client takes for one.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Answer {
    Submitted {
        experiment: ExperimentId,
        created: bool,
        jobs: usize,
    },
    Registered(WorkerId),
    Granted(Vec<Work>),
    Renewed {
        ttl_ms: i64,
    },
    Changed(usize),
    Done,
    /// The lease isn't the latest attempt's, or its job has ended.
    Stale,
    /// The worker must register anew.
    NoWorker,
    /// There is no such experiment or job.
    NotFound,
    /// What is to be computed again has no result, or is shared.
    Refused,
    /// Nobody listens, the connection broke, or nothing was stored: come again.
    Unavailable,
}

/// Who asks, as far as it decides whether anybody still waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    Person,
    /// A worker process: it registers, gives surplus jobs back, leaves.
    Process {
        worker: usize,
        life: u32,
    },
    /// A slot of a worker process, in what it did when it asked.
    Slot {
        worker: usize,
        life: u32,
        slot: usize,
        run: u32,
    },
}

impl Caller {
    pub(crate) const fn worker(self) -> Option<usize> {
        match self {
            Self::Person => None,
            Self::Process { worker, .. } | Self::Slot { worker, .. } => Some(worker),
        }
    }
}

/// A request as the coordinator gets it: a client's call, in one of its attempts.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Request {
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) caller: Caller,
    pub(crate) ask: Ask,
}
