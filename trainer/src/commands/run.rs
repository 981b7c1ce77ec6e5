//! `run`: one job in the foreground.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use promptfield_core::job::outcome::Progress;
use promptfield_core::wire::trainer_job::TrainerJob;

use super::machine::Machine;
use super::{BAD_INPUT, finish};
use crate::data::DataError;
use crate::engine::{self, CancelFlag, JobError, Reporter};
use crate::talk::talk;

/// Runs the job that a file describes. Exit code 0: done; 1: failed; 2: bad input.
pub fn run(path: &Path, machine: &Machine) -> ExitCode {
    let job = fs_err::read_to_string(path).map_err(anyhow::Error::from).and_then(|text| Ok(TrainerJob::parse(&text)?));
    let job = match job {
        Ok(job) => job,
        Err(error) => {
            talk(format_args!("error: {}: {error:#}", path.display()));
            return ExitCode::from(BAD_INPUT);
        }
    };
    let mut session = match machine.session() {
        Ok(session) => session,
        Err(error) => return finish(Err(error)),
    };
    match engine::run(&job, &mut session, &mut Foreground, &CancelFlag::default()) {
        Ok(outcome) => {
            if outcome.adopted {
                talk(format_args!("`{}` is complete already", job.output.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            talk(format_args!("error: {}", error.failure().reason));
            match error {
                JobError::Input(_) | JobError::Data(DataError::Unknown(_)) => ExitCode::from(BAD_INPUT),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Shows the log on stdout.
struct Foreground;

impl Reporter for Foreground {
    fn log(&mut self, line: &str) {
        // Who closed stdout wants no lines; the job goes on.
        let _ = writeln!(io::stdout(), "{line}");
    }

    fn progress(&mut self, _: Progress) {}

    fn metrics(&mut self, _: u64, _: &BTreeMap<String, f64>) {}
}
