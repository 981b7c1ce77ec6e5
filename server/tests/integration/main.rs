//! The coordinator through its HTTP API, on a real database file and a real socket. One binary, for the link time.

mod access;
mod artefacts;
mod backups;
mod bad_input;
mod bodies;
mod crashes;
mod dashboard;
mod document;
mod events;
mod experiments;
mod faults;
mod https;
mod jobs;
mod keys;
mod leases;
mod limits;
mod logs;
mod metrics;
mod overview;
mod pilots;
mod reruns;
mod retention;
mod support;
mod unavailable;
mod webhooks;
