//! Pilots on a real Slurm: clusters that this machine plays, with real workers and trainers on them.

#[path = "../integration/site.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod site;

mod ends;
mod field;
mod matrix;
mod refusals;
