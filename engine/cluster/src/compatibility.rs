//! Compares a checkpoint with a plan: which state can be restored as it is, starts empty, would be lost, or would
//! have another meaning.
//!
//! Operators are found by their stable ids. A restore is refused if no operator of the plan would restore some state,
//! if another kind of operator would, or if state of the right kind was computed from other rows or by other
//! expressions ([`millstream_planner::meaning`]) and the user does not accept that: results would silently be wrong.
//! An operator without state in the checkpoint starts empty, and a note says so.

use std::fmt;

use millstream_graph::{JobGraph, NodeIndex, Operator, OperatorId};
use millstream_planner::meaning::Change;
use millstream_runtime::subtask_state::SubtaskState;

use crate::signature;
use crate::snapshot::Snapshot;
use crate::stored_pipeline::PipelineComparison;

/// The outcome of a restore for one operator's state, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The state can be restored as it is.
    SameMeaning,
    /// The state is readable, but was computed from other rows or by other expressions.
    ChangedMeaning,
    /// The layout of the state differs from the one the operator has now.
    NeedsMigration,
    /// No operator would restore the state.
    LosesState,
}

/// The verdict about one operator that has state in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Id of the operator.
    pub operator: OperatorId,
    /// The verdict.
    pub verdict: Verdict,
    /// The problem as a clause; empty if there is none.
    problem: String,
    /// The remedy.
    pub remedy: String,
    /// Changes of the operator and upstream of it.
    pub changes: Vec<Change>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<String> = self.changes.iter().map(Change::to_string).collect();
        let changes = changes.join("; ");
        match (changes.as_str(), self.remedy.as_str()) {
            ("", "") => f.write_str(&self.problem),
            ("", remedy) => write!(f, "{}; {remedy}", self.problem),
            (changes, remedy) => write!(f, "{}: {changes}; {remedy}", self.problem),
        }
    }
}

/// The result of the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Reasons why the checkpoint as a whole cannot be restored.
    pub general: Vec<String>,
    /// The findings about every operator that has state in the checkpoint.
    pub operators: Vec<Finding>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl Findings {
    /// Returns the reasons why the checkpoint cannot be restored.
    pub fn refusals(&self, accept_changed_meaning: bool) -> Vec<String> {
        let accepted = match accept_changed_meaning {
            true => Verdict::ChangedMeaning,
            false => Verdict::SameMeaning,
        };
        let operators = self.operators.iter().filter(|finding| finding.verdict > accepted);
        let operators = operators.map(Finding::to_string);
        self.general.iter().cloned().chain(operators).collect()
    }

    /// Returns the notes for the user: accepted changes, and everything else.
    pub fn notes(&self) -> Vec<String> {
        let changed = self
            .operators
            .iter()
            .filter(|finding| finding.verdict == Verdict::ChangedMeaning);
        let accepted = changed.map(|finding| {
            let changes: Vec<String> = finding.changes.iter().map(Change::to_string).collect();
            format!("accepted: {}: {}", finding.problem, changes.join("; "))
        });
        accepted.chain(self.notes.iter().cloned()).collect()
    }

    /// Accepts that state is dropped which no operator would restore. Returns the operators it belongs to.
    pub fn drop_lost(&mut self) -> Vec<OperatorId> {
        let is_lost = |finding: &Finding| finding.verdict == Verdict::LosesState;
        let lost = self.operators.extract_if(.., |finding| is_lost(finding));
        let lost: Vec<OperatorId> = lost.map(|finding| finding.operator).collect();
        let notes = lost
            .iter()
            .map(|operator| format!("the state of `{operator}` is dropped"));
        self.notes.extend(notes);
        lost
    }

    /// Returns the worst verdict.
    pub fn verdict(&self) -> Verdict {
        let general = (!self.general.is_empty()).then_some(Verdict::NeedsMigration);
        let operators = self.operators.iter().map(|finding| finding.verdict);
        operators.chain(general).max().unwrap_or(Verdict::SameMeaning)
    }
}

/// Compares a checkpoint with the plan that is to resume from it. `compared`: their pipelines.
pub fn check(graph: &JobGraph, snapshot: &Snapshot, compared: &PipelineComparison) -> Findings {
    let mut findings = Findings::default();
    if snapshot.max_parallelism != graph.max_parallelism {
        findings.general.push(format!(
            "the checkpoint has {0} key groups (max_parallelism), the pipeline {1}; set it back to {0}",
            snapshot.max_parallelism, graph.max_parallelism
        ));
    }
    if snapshot.finished
        && let PipelineComparison::Known(differences) = compared
        && let Some(edited) = &differences.other_plan
    {
        let edited = match edited.is_empty() {
            true => String::new(),
            false => format!(" (edited: {})", edited.join(", ")),
        };
        findings.general.push(format!(
            "all input was processed before, by a pipeline that differs from this one{edited}; nothing would be computed by \
             this one: give it another name (--name), so that it reads the input from the beginning"
        ));
    }
    let nodes = graph.by_id();
    for (operator, states) in &snapshot.operators {
        if !states.iter().any(has_state) {
            continue;
        }
        findings.operators.push(match nodes.get(operator) {
            Some(node) => {
                let before = snapshot
                    .signatures
                    .get(operator)
                    .map(String::as_str)
                    .unwrap_or_default();
                finding_of_present(graph, *node, before, compared)
            }
            None => finding_of_removed(operator, compared),
        });
    }
    for node in &graph.nodes {
        if !snapshot.operators.contains_key(&node.id) {
            findings
                .notes
                .push(format!("`{}` is new in the pipeline and starts without state", node.id));
        }
    }
    let unknown = match compared {
        PipelineComparison::Known(_) => None,
        PipelineComparison::NotStored => Some("the checkpoint does not say which pipeline it was taken of".to_string()),
        PipelineComparison::NotPlannable(reason) => Some(format!(
            "the pipeline that the checkpoint was taken of cannot be planned by this engine ({reason})"
        )),
    };
    findings.notes.extend(unknown.map(|reason| {
        format!("{reason}; only the layout of its state was compared, not what the state was computed from")
    }));
    findings
}

/// Returns the finding about an operator that both have.
fn finding_of_present(graph: &JobGraph, node: NodeIndex, before: &str, compared: &PipelineComparison) -> Finding {
    let operator = &graph.nodes[node].id;
    let changes = match compared {
        PipelineComparison::Known(differences) => differences.changes.get(operator).cloned().unwrap_or_default(),
        PipelineComparison::NotStored | PipelineComparison::NotPlannable(_) => Vec::new(),
    };
    let now = signature::of_state(graph, node);
    let mut finding = Finding {
        operator: operator.clone(),
        verdict: Verdict::SameMeaning,
        problem: String::new(),
        remedy: String::new(),
        changes,
    };
    if before != now {
        let (before, now) = signature::describe_difference(before, &now);
        let step = step_of(operator);
        finding.verdict = Verdict::NeedsMigration;
        finding.problem = format!(
            "the state of `{operator}` is of another kind than the pipeline now keeps (it was: {before}; it is: {now})"
        );
        finding.remedy = format!(
            "undo the change, or call `{step}` something else, so that it starts empty, and let the old state be dropped"
        );
    } else if finding.changes.iter().any(|change| change.is_unreadable) {
        let step = step_of(operator);
        finding.verdict = Verdict::NeedsMigration;
        finding.problem = format!("the state of `{operator}` is stored by the time at which it expires");
        finding.remedy = format!(
            "undo the change, or call `{step}` something else, so that it starts empty, and let the old state be dropped"
        );
    } else if !finding.changes.is_empty() {
        finding.verdict = Verdict::ChangedMeaning;
        let is_source = matches!(graph.nodes[node].operator, Operator::Source(_));
        (finding.problem, finding.remedy) = match is_source {
            true => (
                format!("the positions of `{operator}` belong to other data"),
                "undo the change, or accept that reading goes on at those positions (--accept-changed-meaning)".into(),
            ),
            false => (
                format!("the state of `{operator}` would mean something else"),
                "undo the change, or accept that what is in its state now and what comes later are mixed \
                 (--accept-changed-meaning)"
                    .into(),
            ),
        };
    }
    finding
}

/// Returns the step, table or insert that an operator belongs to.
fn step_of(operator: &OperatorId) -> &str {
    operator
        .0
        .rsplit_once('/')
        .map_or(operator.0.as_str(), |(step, _)| step)
}

/// Returns the finding about an operator that the pipeline does not have.
fn finding_of_removed(operator: &OperatorId, compared: &PipelineComparison) -> Finding {
    let renamed = match compared {
        PipelineComparison::Known(differences) => differences.renamed.get(operator),
        PipelineComparison::NotStored | PipelineComparison::NotPlannable(_) => None,
    };
    let remedy = match renamed {
        Some(new) => format!("`{new}` does the same: give it the name back that it had, or let the state be dropped"),
        None => "bring it back, or let its state be dropped".to_string(),
    };
    Finding {
        operator: operator.clone(),
        verdict: Verdict::LosesState,
        problem: format!(
            "the checkpoint holds state of `{operator}`, which the pipeline no longer has; its state would be lost"
        ),
        remedy,
        changes: Vec::new(),
    }
}

fn has_state(state: &SubtaskState) -> bool {
    !state.inline.is_empty()
        || state.keyed.as_ref().is_some_and(|keyed| !keyed.files.is_empty())
        || !state.splits.is_empty()
        || state.channel_state.is_some()
}

#[cfg(test)]
mod edits;
#[cfg(test)]
mod tests;
