//! What a checkpoint says about a job: its shape, and every subtask's contribution.
//!
//! [`Snapshot`] is the engine's view; the state crate stores it as a manifest with a checksum. The contributions are the
//! manifest's body (version [`BODY_VERSION`]); what the engine knows beside them is in the header's properties:
//!
//! | property | meaning |
//! |---|---|
//! | `finished` | `true`: all input had been processed, the job has nothing left to do |
//! | `origin` | `checkpoint N`: a copy of N, the first of a replay; `JOB/N`: of another job; `fresh`: nothing, the first of a new start |
//! | `state/OPERATOR` | the kind of state the operator kept ([`crate::signature::of_state`]) |
//! | `took_ms` | from the trigger to the last subtask's answer, for one that a run took |
//! | `entries/OPERATOR` | about how many rows its keyed state has, where all subtasks knew |
//! | `engine` | the version that wrote it |
//! | `output_pipeline` | the pipeline that its output was written by, if that is another one |
//! | `pipeline` | the pipeline that the state belongs to ([`crate::stored_pipeline`]); absent: an older engine took it |

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

/// Bytes of the rows that barriers have overtaken on their way to these subtasks.
pub fn in_flight_bytes<'a>(states: impl IntoIterator<Item = &'a SubtaskState>) -> u64 {
    let files = states.into_iter().filter_map(|state| state.channel_state.as_ref());
    files.map(|file| file.length).sum()
}

/// The rows of each operator that has keyed state, if all its subtasks know theirs.
fn entries(operators: &BTreeMap<OperatorId, Vec<SubtaskState>>) -> BTreeMap<OperatorId, u64> {
    let counted = operators.iter().filter_map(|(operator, states)| {
        let mut keyed = states.iter().filter_map(|state| state.keyed.as_ref()).peekable();
        keyed.peek()?;
        Some((operator.clone(), keyed.map(|keyed| keyed.entries).sum::<Option<u64>>()?))
    });
    counted.collect()
}

/// The output of a checkpoint that cannot be restored, as far as its manifest tells.
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
    pub checkpoint: u64,
    pub finished: bool,
    /// Where a checkpoint that no run took came from.
    pub origin: Option<String>,
    /// Its name if it is kept until a person deletes it.
    pub savepoint: Option<String>,
    /// From the trigger to the last subtask's answer, where a run took it.
    pub took_ms: Option<u64>,
    pub parallelism: usize,
    pub max_parallelism: u16,
    pub fingerprint: String,
    /// The pipeline that the state belongs to ([`crate::stored_pipeline`]), where that is known.
    pub pipeline: Option<String>,
    /// The pipeline whose sinks publish the output, if that is another one.
    pub output_pipeline: Option<String>,
    pub operators: BTreeMap<OperatorId, Vec<SubtaskState>>,
    /// What kind of state each operator kept.
    pub signatures: BTreeMap<OperatorId, String>,
    /// About how many rows the keyed state of each has, where that is known.
    pub entries: BTreeMap<OperatorId, u64>,
}

impl Snapshot {
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

    /// The beginning: nothing was read yet.
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

    /// Gives the state to another pipeline. Output stays that of the pipeline that wrote it.
    pub fn reassign_to(&mut self, pipeline: Option<String>) {
        let mut states = self.operators.values().flatten();
        let has_output = states.any(|state| !state.committables.is_empty());
        if has_output && self.output_pipeline.is_none() {
            self.output_pipeline = self.pipeline.take();
        }
        self.pipeline = pipeline;
    }

    /// Forgets output that is published.
    pub fn without_output(mut self) -> Self {
        self.output_pipeline = None;
        for state in self.operators.values_mut().flatten() {
            state.committables.clear();
        }
        self
    }

    /// Every file that the checkpoint refers to: keyed state, output that is not published yet, channel state.
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
    fn rows_of_keyed_state_are_told_where_all_subtasks_know_theirs() {
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
        // As an engine wrote it that did not count.
        manifest.header.properties.retain(|name, _| !name.starts_with(ENTRIES));
        assert!(Snapshot::from_manifest(manifest).entries.is_empty());
    }
}
