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
mod output;
mod settings;
mod span;
mod sse;
mod waiting;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// Gives memory back to the system when a large submission is through.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let filter = EnvFilter::try_from_env("PROMPTFIELD_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: can't start the asynchronous runtime: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    match runtime.block_on(commands::run(args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
