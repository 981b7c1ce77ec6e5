//! The trainer as its users meet it.

mod fixture;
mod jobs;
mod serve;
mod towers;
