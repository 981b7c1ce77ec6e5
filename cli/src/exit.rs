//! Exit codes (interfaces.md, section 2).

use std::io;

use promptfield_client::Error;
use promptfield_core::input::InvalidInput;

/// Done.
pub(crate) const DONE: u8 = 0;
/// It failed.
pub(crate) const FAILED: u8 = 1;
/// Bad usage or input; clap's own code too.
pub(crate) const BAD_INPUT: u8 = 2;
/// The coordinator can't be reached.
pub(crate) const UNREACHABLE: u8 = 3;
/// The coordinator refused the token.
pub(crate) const REFUSED: u8 = 4;

/// What was asked for couldn't be printed.
pub(crate) const UNWRITTEN: u8 = 5;
/// Ended by Ctrl-C, as a shell says it of whoever died of it.
pub(crate) const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM, likewise.
pub(crate) const TERMINATED: u8 = 143;

/// Errors whose exit code isn't [`FAILED`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Coded {
    /// Bad usage or input.
    #[error("{0}")]
    BadInput(String),
    /// The coordinator refused the token.
    #[error("the coordinator at {url} refused: {detail}")]
    Refused { url: String, detail: String },
    /// What was asked for couldn't be printed.
    #[error("can't write to standard output")]
    Unwritten {
        #[source]
        source: io::Error,
    },
}

/// The exit code for an error.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<InvalidInput>() {
            return BAD_INPUT;
        }
        match cause.downcast_ref() {
            Some(Coded::BadInput(_)) => return BAD_INPUT,
            Some(Coded::Refused { .. }) => return REFUSED,
            Some(Coded::Unwritten { .. }) => return UNWRITTEN,
            None => {}
        }
        if let Some(error) = cause.downcast_ref() {
            return code_of_call(error);
        }
    }
    FAILED
}

/// The exit code for a call that brought nothing.
fn code_of_call(error: &Error) -> u8 {
    match error {
        Error::Unreachable { .. } => UNREACHABLE,
        Error::Page { .. } => BAD_INPUT,
        Error::Refused(refusal) => match refusal.status {
            _ if !refusal.errors.is_empty() => BAD_INPUT,
            401 | 403 => REFUSED,
            // It may be done later.
            408 | 429 => FAILED,
            400..500 => BAD_INPUT,
            _ => FAILED,
        },
        Error::Broken { .. } | Error::Unexpected { .. } | Error::Unreadable { .. } => FAILED,
    }
}
