//! From a job spec or a SQL script to a [`graph::JobGraph`]. Pure: no I/O, no clock.

pub mod error;
pub mod graph;
pub mod logical;

pub use error::{Error, Errors, Location};
