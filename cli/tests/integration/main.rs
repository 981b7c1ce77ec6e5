//! The commands from outside: the real binary, the real trainer, the bundled data.

mod crashes;
mod doctor;
mod input;
mod matrix;
mod operations;
mod site;
mod tokens;
