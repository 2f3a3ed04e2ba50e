//! Runs a job with checkpoints and recovery, in one process or on the workers of a cluster.
//!
//! [`run`](fn@run) runs a planned job to its end: it restores the latest intact checkpoint, creates sources and
//! sinks, deploys the tasks, triggers checkpoints, lets sinks publish what is complete, restarts after retryable
//! failures, and stops when asked. Decisions are in plain state machines ([`checkpoint`], [`restart`], [`splits`],
//! [`compatibility`]); effects are in `attempt` and [`mod@run`].
//!
//! This crate knows no command line and no terminal: it reports through [`Progress`].

#![warn(unreachable_pub)]

pub mod access;
pub mod api;
mod attempt;
pub mod checkpoint;
mod clock;
pub mod compatibility;
pub mod connect;
pub mod coordinator;
pub mod deployer;
mod encoding;
mod error;
pub mod exchange;
mod fallback;
pub mod fleet;
mod history;
mod input_fields;
pub mod job;
pub mod network;
pub mod outage;
pub mod pipeline_test;
pub mod planning;
mod progress;
mod publish;
mod region;
pub mod resolve;
pub mod restart;
pub mod run;
pub mod serve;
pub mod service;
mod signature;
pub mod snapshot;
pub mod spans;
pub mod splits;
mod stored_pipeline;
pub mod verify;
pub mod worker;
mod worker_protocol;

pub use error::Error;
pub use history::{CheckpointSummary, Detail, list};
pub use job::{Job, Outcome, Start, StopRequest};
pub use progress::{CheckpointReport, JobProgress, Note, Phase, Progress, ProgressEvent, Report};
pub use run::run;
