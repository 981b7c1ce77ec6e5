//! Trains and evaluates one prompt-learning job; the only crate that links libtorch.

pub mod clip;
pub mod commands;
pub mod data;
pub mod draws;
pub mod engine;
mod file_state;
pub mod image;
pub mod loss_scale;
pub mod methods;
pub mod optimiser;
mod recent;
pub mod talk;
pub mod tokenizer;
pub mod working;
