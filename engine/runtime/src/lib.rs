//! The runtime of job graphs: operators, tasks, slots and channels.
//!
//! From the outside in: [`deployment`] turns a graph into tasks that are connected by channels, and gives them to slot
//! threads; [`job::RunningJob`] takes commands for the tasks and hands out their events. A task is a chain of stages (a
//! source, operators, a sink) between its inputs and its output edges. [`operator`] is the contract of an operator.

#![warn(missing_docs, unreachable_pub)]

mod alignment;
mod chain;
pub mod channel;
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
mod operators;
pub mod remote_channel;
pub mod request;
#[cfg(test)]
mod simulator;
pub mod single_thread;
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
