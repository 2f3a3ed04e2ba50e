//! Operators, tasks, slots and channels: how a job graph runs.
//!
//! From the outside in: [`job`] deploys a graph and is how its driver talks to it; `deployment` makes `task`s of it,
//! connected by `channel`s, and gives them to `slot` threads. A task is a `chain` of `stage`s (a source, operators, a
//! sink) between its `inputs` and its `exchange`s. [`operator`] is the contract of one step, [`operators`] has them all.

mod alignment;
mod chain;
mod channel;
mod channel_state;
mod deployment;
pub mod element;
pub mod error;
mod exchange;
mod inputs;
pub mod job;
pub mod operator;
pub mod operators;
pub mod progress;
pub mod remote_channel;
#[cfg(test)]
mod simulator;
pub mod sink_files;
mod sink_task;
mod slot;
mod snapshot;
mod source_task;
mod stage;
mod task;
mod watermark;

pub use error::Error;
pub use millstream_state::threads;
