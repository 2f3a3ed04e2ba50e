//! The commands, one file for each noun and for each verb of more than a few lines.

pub mod checkpoints;
pub mod contexts;
mod describe;
mod diff;
pub mod doctor;
mod event_streams;
pub mod jobs;
mod refresh;
mod submit;
mod top;
pub mod transactions;
mod update;
mod verify;
mod wait;
mod why;
pub mod workers;
