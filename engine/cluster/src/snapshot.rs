//! The content of a complete checkpoint: the shape of the job, and the contribution of every subtask.
//!
//! [`Snapshot`] is the engine's view; the state crate stores it as a manifest with a checksum. The contributions are
//! the body of the manifest (version [`BODY_VERSION`]); the rest is in the properties of the header:
//!
//! | property | meaning |
//! |---|---|
//! | `finished` | `true`: all input had been processed |
//! | `origin` | of a copy: `checkpoint N` for a replay, `JOB/N` of another job, `fresh` for an empty one |
//! | `state/OPERATOR` | the kind of state of the operator ([`crate::signature::of_state`]) |
//! | `took_ms` | time from the trigger to the last acknowledgement; absent for copies |
//! | `entries/OPERATOR` | approximate number of rows of its keyed state; absent if a subtask does not know it |
//! | `engine` | the version of the engine that wrote it |
//! | `output_pipeline` | the pipeline that wrote the output, if it is another one |
//! | `pipeline` | the pipeline of the state ([`crate::stored_pipeline`]); absent in checkpoints of old engines |

use std::collections::BTreeMap;

use millstream_graph::OperatorId;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_state::checkpoint::{CheckpointStore, VerificationDepth};
use millstream_state::job_files::FileReference;
use millstream_state::manifest::{Header, Manifest, OperatorEntry};

use crate::checkpoint::Completed;
use crate::fallback::Output;
use crate::job::Job;
use crate::{Error, signature};

/// Version of [`SubtaskState`] as the manifest's body.
pub const BODY_VERSION: u16 = 3;

const SIGNATURE: &str = "state/";
const ENTRIES: &str = "entries/";

/// Returns the bytes of the rows that barriers have overtaken on their way to these subtasks.
pub fn in_flight_bytes<'a>(states: impl IntoIterator<Item = &'a SubtaskState>) -> u64 {
    let files = states.into_iter().filter_map(|state| state.channel_state.as_ref());
    files.map(|file| file.length).sum()
}

/// Returns the number of rows of each operator that has keyed state, if all its subtasks know it.
fn entries(operators: &BTreeMap<OperatorId, Vec<SubtaskState>>) -> BTreeMap<OperatorId, u64> {
    let counted = operators.iter().filter_map(|(operator, states)| {
        let mut keyed = states.iter().filter_map(|state| state.keyed.as_ref()).peekable();
        keyed.peek()?;
        Some((operator.clone(), keyed.map(|keyed| keyed.entries).sum::<Option<u64>>()?))
    });
    counted.collect()
}

/// Returns the output of a checkpoint that cannot be restored, as far as its manifest is readable.
pub async fn output_of(store: &CheckpointStore, checkpoint: u64) -> Result<Output, Error> {
    let manifest = store
        .load::<SubtaskState>(checkpoint, BODY_VERSION, VerificationDepth::Manifest)
        .await;
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) if error.is_damage() => return Ok(Output::Unknown),
        Err(error) => return Err(error.into()),
    };
    let mut states = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    Ok(match states.all(|state| state.committables.is_empty()) {
        true => Output::None,
        false => Output::Present,
    })
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number.
    pub checkpoint: u64,
    /// True if all input had been processed.
    pub finished: bool,
    /// The origin of a copy; `None` for a checkpoint of running tasks.
    pub origin: Option<String>,
    /// The name of a savepoint.
    pub savepoint: Option<String>,
    /// Milliseconds from the trigger to the last acknowledgement; `None` for a copy.
    pub took_ms: Option<u64>,
    /// Subtasks per operator.
    pub parallelism: usize,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// Fingerprint of the job graph.
    pub fingerprint: String,
    /// The pipeline of the state ([`crate::stored_pipeline`]), if it is known.
    pub pipeline: Option<String>,
    /// The pipeline whose sinks publish the output, if it is another one.
    pub output_pipeline: Option<String>,
    /// The contribution of every subtask, by operator.
    pub operators: BTreeMap<OperatorId, Vec<SubtaskState>>,
    /// The kind of state of each operator.
    pub signatures: BTreeMap<OperatorId, String>,
    /// Approximate number of rows of keyed state by operator, where it is known.
    pub entries: BTreeMap<OperatorId, u64>,
}

impl Snapshot {
    /// Creates the snapshot of a checkpoint that all subtasks have acknowledged.
    pub fn new(job: &Job, parallelism: usize, completed: &Completed) -> Self {
        Self {
            finished: completed.finished,
            took_ms: Some(completed.acknowledged_ms - completed.triggered_ms),
            operators: completed.states.clone(),
            entries: entries(&completed.states),
            parallelism,
            ..Self::empty(job, completed.checkpoint)
        }
    }

    /// Creates a snapshot without state.
    pub fn empty(job: &Job, checkpoint: u64) -> Self {
        let nodes = job.graph.nodes.iter().enumerate();
        Self {
            checkpoint,
            finished: false,
            origin: None,
            savepoint: None,
            took_ms: None,
            parallelism: job.parallelism,
            max_parallelism: job.graph.max_parallelism,
            fingerprint: format!("{:016x}", job.graph.fingerprint),
            pipeline: job.stored_pipeline.as_deref().map(str::to_string),
            output_pipeline: None,
            operators: BTreeMap::new(),
            entries: BTreeMap::new(),
            signatures: nodes
                .map(|(index, node)| (node.id.clone(), signature::of_state(&job.graph, index)))
                .collect(),
        }
    }

    /// Assigns the state to another pipeline. Output remains that of the pipeline that wrote it.
    pub fn reassign_to(&mut self, pipeline: Option<String>) {
        let mut states = self.operators.values().flatten();
        let has_output = states.any(|state| !state.committables.is_empty());
        if has_output && self.output_pipeline.is_none() {
            self.output_pipeline = self.pipeline.take();
        }
        self.pipeline = pipeline;
    }

    /// Removes the output, because it is published.
    pub fn without_output(mut self) -> Self {
        self.output_pipeline = None;
        for state in self.operators.values_mut().flatten() {
            state.committables.clear();
        }
        self
    }

    /// Returns every file that the checkpoint refers to: keyed state, unpublished output, channel state.
    pub fn files(&self) -> Vec<FileReference> {
        let states = || self.operators.values().flatten();
        let keyed = states().filter_map(|state| state.keyed.as_ref());
        let keyed = keyed.flat_map(|keyed| keyed.files.iter().cloned());
        let committables = states().flat_map(|state| &state.committables);
        let output = committables.flat_map(|committable| &committable.files);
        let output = output.map(|file| FileReference {
            path: file.path.clone(),
            name: String::new(),
            length: file.length,
            crc32: file.crc32,
        });
        let in_flight = states().filter_map(|state| state.channel_state.clone());
        keyed.chain(output).chain(in_flight).collect()
    }

    /// Returns the manifest.
    pub fn to_manifest(&self, attempt: u64, created_ms: i64) -> Manifest<SubtaskState> {
        let mut properties = BTreeMap::from([("engine".to_string(), env!("CARGO_PKG_VERSION").to_string())]);
        if self.finished {
            properties.insert("finished".into(), "true".into());
        }
        if let Some(took_ms) = self.took_ms {
            properties.insert("took_ms".into(), took_ms.to_string());
        }
        if let Some(origin) = &self.origin {
            properties.insert("origin".into(), origin.clone());
        }
        if let Some(pipeline) = &self.pipeline {
            properties.insert("pipeline".into(), pipeline.clone());
        }
        if let Some(pipeline) = &self.output_pipeline {
            properties.insert("output_pipeline".into(), pipeline.clone());
        }
        for (operator, signature) in &self.signatures {
            if !signature.is_empty() {
                properties.insert(format!("{SIGNATURE}{operator}"), signature.clone());
            }
        }
        for (operator, entries) in &self.entries {
            properties.insert(format!("{ENTRIES}{operator}"), entries.to_string());
        }
        let operators = self.operators.iter().map(|(operator, states)| OperatorEntry {
            operator: operator.0.clone(),
            subtasks: states.clone(),
        });
        Manifest {
            header: Header {
                job: String::new(),
                checkpoint: self.checkpoint,
                epoch: 0,
                attempt,
                created_ms,
                fingerprint: self.fingerprint.clone(),
                max_parallelism: self.max_parallelism,
                parallelism: u32::try_from(self.parallelism).unwrap_or(u32::MAX),
                savepoint: self.savepoint.clone(),
                files: self.files(),
                properties,
            },
            body_version: BODY_VERSION,
            operators: operators.collect(),
        }
    }

    /// Reads a manifest.
    pub fn from_manifest(manifest: Manifest<SubtaskState>) -> Self {
        let header = manifest.header;
        let property = |name: &str| header.properties.get(name).cloned();
        let signatures = header.properties.iter().filter_map(|(name, signature)| {
            let operator = name.strip_prefix(SIGNATURE)?;
            Some((OperatorId(operator.to_string()), signature.clone()))
        });
        let entries = header.properties.iter().filter_map(|(name, entries)| {
            let operator = name.strip_prefix(ENTRIES)?;
            Some((OperatorId(operator.to_string()), entries.parse().ok()?))
        });
        let operators = manifest
            .operators
            .into_iter()
            .map(|entry| (OperatorId(entry.operator), entry.subtasks));
        Self {
            checkpoint: header.checkpoint,
            finished: property("finished").as_deref() == Some("true"),
            origin: property("origin"),
            pipeline: property("pipeline"),
            output_pipeline: property("output_pipeline"),
            took_ms: property("took_ms").and_then(|text| text.parse().ok()),
            savepoint: header.savepoint,
            parallelism: header.parallelism as usize,
            max_parallelism: header.max_parallelism,
            signatures: signatures.collect(),
            entries: entries.collect(),
            fingerprint: header.fingerprint,
            operators: operators.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_state::key_group::KeyGroupRange;
    use millstream_state::store::KeyedSnapshot;

    use super::*;

    fn subtask(subtask: usize, entries: Option<u64>) -> SubtaskState {
        SubtaskState {
            subtask,
            keyed: Some(KeyedSnapshot {
                range: KeyGroupRange::of_subtask(128, 2, subtask),
                files: Vec::new(),
                bytes: 0,
                entries,
            }),
            ..SubtaskState::default()
        }
    }

    #[test]
    fn rows_of_keyed_state_are_counted_if_all_subtasks_know_theirs() {
        let id = |name: &str| OperatorId(name.to_string());
        let operators = BTreeMap::from([
            (id("all"), vec![subtask(0, Some(3)), subtask(1, Some(4))]),
            (id("some"), vec![subtask(0, Some(3)), subtask(1, None)]),
            (id("none"), vec![SubtaskState::default()]),
        ]);
        let snapshot = Snapshot {
            checkpoint: 7,
            finished: false,
            origin: None,
            savepoint: None,
            took_ms: None,
            parallelism: 2,
            max_parallelism: 128,
            fingerprint: String::new(),
            pipeline: None,
            output_pipeline: None,
            entries: entries(&operators),
            operators,
            signatures: BTreeMap::new(),
        };
        assert_eq!(snapshot.entries, BTreeMap::from([(id("all"), 7)]));
        let mut manifest = snapshot.to_manifest(1, 0);
        let bytes = manifest.encode().expect("it can be written");
        let read = Manifest::decode(&bytes, "manifest", BODY_VERSION).expect("it can be read");
        assert_eq!(Snapshot::from_manifest(read).entries, snapshot.entries);
        // A manifest of an engine without this count.
        manifest.header.properties.retain(|name, _| !name.starts_with(ENTRIES));
        assert!(Snapshot::from_manifest(manifest).entries.is_empty());
    }
}
