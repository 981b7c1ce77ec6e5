//! The program's commands: each reads its input, calls the libraries beside this folder, and shows what they give.

mod data_check;
pub mod inspect;
mod inspect_data;
mod inspect_model;
mod inspect_outputs;
pub mod machine;
pub mod measure;
pub mod replay;
pub mod run;
pub mod serve;

use std::process::ExitCode;

use promptfield_core::input::InvalidInput;

pub use self::inspect_model::BackboneArgs;
use crate::talk::talk;

/// The exit code for bad usage or input; clap's own too.
const BAD_INPUT: u8 = 2;

/// The exit code of a command; what went wrong is said on stderr.
pub fn finish(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk(format_args!("error: {error:#}"));
            let bad_input = error.chain().any(<dyn std::error::Error>::is::<InvalidInput>);
            if bad_input { ExitCode::from(BAD_INPUT) } else { ExitCode::FAILURE }
        }
    }
}
