//! `cargo xtask bench`: what a job costs here and elsewhere, what a training step costs, and what whole matrices take.
//!
//! Rule of this crate: everything is measured from outside. The coordinator is a `promptfield serve` process on a database of
//! its own; the workers are processes that speak its HTTP API and end every job at once; CPU time and memory come from
//! `/proc`. Peers are scripts in `peers/` that print what they measured as one line of JSON.

mod args;
mod bundled;
mod cell;
mod coordinator;
mod fleet;
mod machine;
mod markdown;
mod matrix;
mod peers;
mod process;
mod report;
mod run;
mod slurm;
mod stats;
mod trainer;
mod waiting;
mod worker;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use args::{Args, Command};

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("can't start the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Coordinator(args) => run::run(&args).await,
            Command::Matrix(args) => matrix::run(&args).await,
            Command::Slurm(args) => slurm::run(&args),
            Command::Trainer(args) => trainer::run(&args).await,
            Command::Worker(args) => worker::run(&args).await,
        }
    });
    // A worker that can't go on doesn't wait for its stdin to end.
    runtime.shutdown_background();
    outcome
}
