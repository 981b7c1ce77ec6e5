//! The trainer as its users meet it.

mod fixture;
mod jobs;
mod kills;
mod serve;
mod towers;
