//! A whole installation in virtual time: the real scheduler, and everybody else played.
//!
//! Rule of this crate: no clock and no randomness but the seed's, so that a seed is a run, to the last message; only the
//! command line measures real time and memory. Nothing here decides about jobs: that is the scheduler's, which is under test
//! together with the promises between it, its database, its workers and its clients.
//!
//! [`World`] runs; the audit compares everything that was written and said with what must hold, and the first [`Violation`]
//! ends the run.

mod audit;
mod basis;
mod climate;
mod faults;
mod history;
mod packing;
mod plans;
mod random;
mod wire;
mod world;

pub use audit::Violation;
pub use history::Talk;
pub use world::{Flaw, Found, Settings, Size, Summary, World};

/// Runs a small world with all faults.
pub fn simulate(seed: u64, flaw: Option<Flaw>, talk: Talk) -> Result<Summary, Found> {
    World::new(Settings { seed, size: Size::Small, faults: true, flaw, talk })?.until_over()
}
