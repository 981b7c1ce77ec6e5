//! Jobs: what one computes, what it rests on, what it brings back and leaves in its folder.

pub mod backbone;
pub mod basis;
pub mod earlier;
pub mod evaluation;
pub mod layout;
pub mod outcome;
pub mod spec;
pub mod unfinished;
