//! The coordinator through its HTTP API, on a real database file and a real socket. One binary, for the link time.

mod artefacts;
mod bad_input;
mod crashes;
mod document;
mod events;
mod experiments;
mod jobs;
mod leases;
mod support;
mod unavailable;
