//! The vocabulary of Promptfield and its decisions.
//!
//! Rule of this crate: no I/O, no clock, no randomness of its own. Time comes in as an argument, state changes go out as
//! values; who calls it reads the files, owns the sockets and writes the database. So everything here runs under unit and
//! property tests without a server.
//!
//! The way of the data: an [`experiment::Experiment`] is expanded by [`experiment::matrix::expand`] into [`job::spec::JobSpec`]s, the
//! [`scheduler::Scheduler`] decides who runs which of them, a worker hands one to a trainer as a
//! [`wire::trainer_job::TrainerJob`], and the [`job::outcome::TestResult`]s that come back fill the [`results::tables`].

pub mod chain;
pub mod experiment;
pub mod id;
pub mod input;
pub mod job;
pub mod method;
pub mod names;
pub mod protocol;
pub mod results;
pub mod scheduler;
pub mod time;
pub mod wire;

/// The version that manifests, workers and the coordinator report: the workspace's.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether a coordinator or worker of version `other` works with one of this version: major and minor are the same.
pub fn works_with(other: &str) -> bool {
    let line = |version: &str| version.splitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
    line(other) == line(VERSION)
}
