//! Trains and evaluates one prompt-learning job; the only crate that links libtorch.

pub mod clip;
pub mod data;
pub mod data_check;
pub mod draws;
pub mod engine;
mod file_state;
pub mod image;
pub mod inspect;
pub mod inspect_data;
pub mod inspect_model;
mod inspect_outputs;
pub mod loss_scale;
pub mod measure;
pub mod methods;
pub mod optimiser;
mod recent;
pub mod replay;
pub mod serve;
pub mod talk;
pub mod tokenizer;
pub mod working;
