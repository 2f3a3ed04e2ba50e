//! Operators, tasks, slots and channels: how a job graph runs.

pub mod error;
pub mod job;
pub mod operator;
pub mod operators;

pub use error::Error;
