//! The commands from outside: the real binary, the real trainer, the bundled data.

mod addresses;
mod bases;
mod control;
mod crashes;
mod doctor;
mod fake;
mod full_disk;
mod input;
mod logs;
mod matrix;
mod operations;
mod restarts;
mod site;
mod starts;
mod submissions;
mod talk;
mod tokens;
#[cfg(feature = "otel")]
mod traces;
