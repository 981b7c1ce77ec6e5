//! What travels between processes: over HTTP, and as JSON lines between a worker and its trainer.

pub mod access;
pub mod api;
pub mod data_report;
pub mod occasion;
pub mod output_report;
pub mod trainer_job;
pub mod trainer_wire;
