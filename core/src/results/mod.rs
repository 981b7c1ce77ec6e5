//! From results to tables: statistics, published numbers, and the tables of the papers.

pub mod published;
pub mod stats;
pub mod tables;
