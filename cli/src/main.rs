//! The `promptfield` command: coordinator, worker and everything a person does with them.
//!
//! Rule of this crate: it holds no decision of its own. It reads settings and arguments, calls the coordinator over HTTP
//! as any other client would, and prints. Data goes to stdout, talk to stderr; the exit codes are those of [`exit`].

mod args;
mod client;
mod commands;
mod credentials;
mod data_sets;
mod display;
mod exit;
mod local;
mod logging;
mod output;
mod settings;
mod span;
mod sse;
#[cfg(feature = "otel")]
mod traces;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: can't start the asynchronous runtime: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    // What is still to be exported at the end goes through the runtime.
    let result = logging::start(runtime.handle()).and_then(|_logging| runtime.block_on(commands::run(args)));
    // A thread that waits for stdin, say, can't be told to stop: nothing waits for it.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
