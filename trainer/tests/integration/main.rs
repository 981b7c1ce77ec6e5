//! The trainer as its users meet it.

mod fixture;
mod jobs;
mod kills;
mod layouts;
mod serve;
mod towers;
