//! A worker between a real coordinator and puppet trainers (`puppet_trainer.rs`), which do what a test wants when it wants it.

mod checkpoints;
mod deaths;
mod deliveries;
mod evaluations;
mod jobs;
mod outages;
mod pilots;
mod reports;
mod shutdown;
mod support;
mod unfinished;
