//! The protocol: messages between client, coordinator and workers, and the notations that people write.
//!
//! [`JobSpec`] is a pipeline. [`spec`] reads and writes it as YAML or JSON, reports all mistakes of a file with line
//! and column, expands `${NAME}` and publishes the JSON Schema. The planner checks SQL, connectors and their options.
//! [`spec`] also parses durations and suggests names for other crates, and [`civil`] is the calendar.
#![warn(missing_docs, unreachable_pub)]

pub mod civil;
pub mod json;
pub mod report;
pub mod spec;
pub mod status;

/// Messages and services of protocol version 1. They are documented in the `.proto` files.
// Generated code: not every field has a comment in the protocol's files.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/millstream.v1.rs"));
}

/// The descriptors of [`v1`], for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

pub use v1::{
    Checkpoints, Column, Consistency, Delivery, ErrorPolicy, EventTime, JobSpec, Mode, ModeSection, ModeValue,
    Parameter, Property, Sink, Source, Step,
};

impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let masked = spec::secret::mask(&self.key, &self.value);
        write!(f, "{}: {masked:?}", self.key)
    }
}

impl std::fmt::Debug for v1::Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variables: Vec<&String> = self.environment.keys().collect();
        f.debug_struct("Pipeline")
            .field("variables", &variables)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::ResolvedJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolvedJob")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
