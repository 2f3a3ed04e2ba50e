//! The wire: messages that travel between client, coordinator and workers, and the spellings that people write.
//!
//! [`JobSpec`] is a pipeline. [`spec`] reads and writes it as YAML or JSON, says what is wrong with a file (all of it
//! at once, with line and column), resolves `${NAME}` and publishes the JSON Schema. Whether the SQL, the connectors
//! and their options make sense is the planner's to say. [`spec`] also has the parts of spellings that other crates
//! share, durations and suggestions, and [`civil`] has the calendar.

pub mod civil;
pub mod json;
pub mod report;
pub mod spec;
pub mod status;

/// Messages and services of protocol version 1.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/millstream.v1.rs"));
}

/// The descriptors of [`v1`], for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

pub use v1::{Checkpoints, Column, Delivery, ErrorPolicy, EventTime, JobSpec, Mode, Property, Sink, Source, Step};

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
