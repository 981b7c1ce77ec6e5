//! The engine: from a job to a complete output folder.
//!
//! Rule of this room: it decides nothing of the science. Towers, losses and inference are the methods', which image is seen
//! when is the data's; here is the order in which they are called, and what reaches the disk when. A job's folder is
//! complete or absent ([`promptfield_output`]), an interrupted job goes on from its last epoch ([`train`]), and neither a failure nor a
//! panic of a job ends the process ([`run`]).

mod calibration;
mod checkpoint;
mod error;
mod evaluate;
mod job;
mod loader;
mod log;
mod report;
mod score;
mod session;
mod train;

use std::panic::{AssertUnwindSafe, catch_unwind};

use promptfield_core::job::outcome::Outcome;
use promptfield_core::wire::trainer_job::TrainerJob;

pub use checkpoint::CheckpointError;
pub use error::JobError;
pub use job::devices;
pub use report::{CancelFlag, Reporter};
pub use session::Session;

/// Runs a job and leaves its output folder complete, or, when it fails or is cancelled, as it was, with what was done up to the
/// last epoch in the sibling `….partial`. A folder that is complete already is adopted, and nothing is computed.
pub fn run(
    job: &TrainerJob,
    session: &mut Session,
    reporter: &mut dyn Reporter,
    cancel: &CancelFlag,
) -> Result<Outcome, JobError> {
    let ran = catch_unwind(AssertUnwindSafe(|| job::run(job, session, reporter, cancel)));
    ran.unwrap_or_else(|panic| {
        session.drop_backbone();
        Err(JobError::from_panic(panic.as_ref()))
    })
}
