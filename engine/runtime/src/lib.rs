//! Operators, tasks, slots and channels: how a job graph runs.
//!
//! From the outside in: [`job`] deploys a graph and is how its driver talks to it; `deployment` makes `task`s of it,
//! connected by `channel`s, and gives them to `slot` threads. A task is a `chain` of `stage`s (a source, operators, a
//! sink) between its `inputs` and its `exchange`s. [`operator`] is the contract of one step, [`operators`] has them all.

mod alignment;
mod chain;
mod channel;
mod channel_state;
pub mod command;
pub mod counters;
mod dead_letters;
pub mod deployment;
pub mod element;
pub mod error;
mod exchange;
mod inputs;
pub mod job;
pub mod operator;
pub mod operators;
pub mod remote_channel;
#[cfg(test)]
mod simulator;
pub mod sink_files;
mod sink_stage;
mod slot;
mod snapshot;
mod source_stage;
mod stage;
mod stage_output;
pub mod subtask_state;
mod task;
mod watermark;

pub use error::Error;
