//! The trainer as its users meet it.

mod backbones;
mod fixture;
mod inspect_data;
mod jobs;
mod kills;
mod layouts;
mod serve;
mod towers;
