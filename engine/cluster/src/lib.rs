//! Running a job with checkpoints and recovery, in one process or over the workers of a cluster.
//!
//! [`run`] takes a planned job and carries it to its end: it restores the latest checkpoint that is whole, makes
//! sources and sinks, deploys the tasks, cuts checkpoints, lets sinks publish what is complete, restarts after
//! failures that may pass, and stops cleanly when asked. What it decides is in plain state machines
//! ([`checkpoint`], [`restart`], [`splits`], [`compatibility`]); what it does is in `attempt` and [`run`](mod@run).
//!
//! This crate knows no command line and no terminal: it reports through [`Progress`].

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
pub mod planning;
mod progress;
mod publish;
mod region;
pub mod resolve;
pub mod restart;
pub mod run;
pub mod serve;
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
pub use progress::{CheckpointReport, Note, Numbers, Phase, Progress, ProgressEvent, Report};
pub use run::run;
