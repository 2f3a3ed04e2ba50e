//! Operators, tasks, slots and channels: how a job graph runs.

mod deployment;
pub mod error;
pub mod job;
pub mod operator;
pub mod operators;
pub mod progress;
mod slot;

pub use error::Error;
