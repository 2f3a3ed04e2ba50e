//! Input that exists beside what a finished job has read.
//!
//! The checkpoint of a finished job says that all input was processed. Its windows have fired and its last watermark
//! is the end of time, so rows that came later cannot be added. They are listed, so that "nothing to do" is not taken
//! for "all input was processed".

use millstream_connectors::{Source, Split};
use millstream_graph::OperatorId;
use millstream_proto::report::listed;
use millstream_runtime::subtask_state::{SplitState, SubtaskState};

use super::Attempt;
use super::connectors::Connectors;
use crate::snapshot::Snapshot;
use crate::splits;

/// Largest number of splits named of one source.
const NAMED_MAX: usize = 5;

/// Returns the input that the finished job has not read, one text for each source that has some.
pub(super) async fn unread_input(attempt: &Attempt<'_>, connectors: &Connectors, base: &Snapshot) -> Vec<String> {
    let mut unread = Vec::new();
    let nodes = &attempt.job.graph.nodes;
    let mut sources: Vec<_> = connectors.sources.iter().collect();
    sources.sort_by_key(|(node, _)| **node);
    for (node, source) in sources {
        let id = &nodes[*node].id;
        source.resume();
        match source.splits().await {
            Ok(found) => {
                let states = base.operators.get(id).map(Vec::as_slice).unwrap_or_default();
                unread.extend(unread_splits(id, source.as_ref(), states, &found));
            }
            // The job needs no input, so this is no failure.
            Err(error) => attempt.progress.info(format!(
                "`{id}`: new input cannot be detected, because the source cannot be listed: {error}"
            )),
        }
    }
    unread
}

fn unread_splits(id: &OperatorId, source: &dyn Source, states: &[SubtaskState], found: &[Split]) -> Option<String> {
    let known: Vec<&SplitState> = states.iter().flat_map(|state| &state.splits).collect();
    let named = found
        .iter()
        .filter_map(|split| match known.iter().find(|known| known.id == split.id) {
            None => Some(format!("`{}` is new", split.id)),
            Some(known) if source.has_changed(&splits::open(known), split) => {
                Some(format!("`{}` has changed", split.id))
            }
            Some(_) => None,
        });
    let named = listed(named, NAMED_MAX);
    (!named.is_empty()).then(|| format!("source `{id}`: {named}"))
}
