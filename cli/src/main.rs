//! The `promptfield` command: coordinator, worker and everything a person does with them.
//!
//! Rule of this crate: it holds no decision of its own. It reads settings and arguments, calls the coordinator over HTTP
//! as any other client would, and prints. Data goes to stdout, talk to stderr; the exit codes are those of [`exit`].

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod admin_access;
mod commands;
mod context;
mod credentials;
mod display;
mod exit;
mod local;
mod logging;
mod output;
mod output_folders;
mod print;
mod settings;
mod span;
mod target;
mod terminal;
#[cfg(feature = "otel")]
mod traces;
mod waiting;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser;

/// Shows help, the version, or what is wrong with the arguments.
fn unparsed(error: &clap::Error) -> ExitCode {
    match error.print().and_then(|()| std::io::stdout().flush()) {
        Err(source) if !error.use_stderr() && source.kind() != ErrorKind::BrokenPipe => {
            failed(&exit::Coded::Unwritten { source }.into())
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::FAILED)),
    }
}

/// Says what went wrong.
fn failed(error: &anyhow::Error) -> ExitCode {
    print::talk(format_args!("error: {error:#}"));
    ExitCode::from(exit::code_of(error))
}

fn main() -> ExitCode {
    let args = match commands::Args::try_parse() {
        Ok(args) => args,
        Err(error) => return unparsed(&error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::talk(format_args!("error: can't start the asynchronous runtime: {error}"));
            return ExitCode::from(exit::FAILED);
        }
    };
    // What is still to be exported at the end goes through the runtime.
    let result = logging::start(runtime.handle()).and_then(|_logging| runtime.block_on(commands::run(args)));
    // A thread that waits for stdin, say, can't be told to stop: nothing waits for it.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    }
}
