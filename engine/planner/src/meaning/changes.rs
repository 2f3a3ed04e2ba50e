//! Comparison of two pipelines.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use millstream_graph::{JobGraph, OperatorId};

use super::rows::meanings;
use super::symbol::Item;
use super::{Aspect, Change, Differences, Meaning, Planned};
use crate::explain;
use crate::logical::{CatalogTable, InsertInput, Pipeline, SideOutputScan, StepReference};

type Meanings = BTreeMap<OperatorId, Meaning>;

/// Returns the differences in meaning between the pipeline that wrote a checkpoint and the one that resumes from it.
pub fn compare(old: &Planned, new: &Planned) -> Differences {
    // The stack grows as in planning, since expressions nest as deep.
    stacker::grow(crate::STACK_BYTES, || differences(old, new))
}

fn differences(old: &Planned, new: &Planned) -> Differences {
    let (before, now) = (meanings(&old.graph), meanings(&new.graph));
    let edits = Edits::new(&old.pipeline, &new.pipeline);
    let mut differences = Differences {
        other_plan: (!is_same_plan(&old.graph, &new.graph)).then(|| edits.all()),
        ..Differences::default()
    };
    for (id, meaning) in &before {
        let Some(other) = now.get(id) else {
            let same = now
                .iter()
                .find(|(new_id, other)| !before.contains_key(*new_id) && *other == meaning);
            if let Some((new_id, _)) = same {
                differences.renamed.insert(id.clone(), new_id.clone());
            }
            continue;
        };
        // The state of a source is its position, which does not depend on the decoding of records.
        let is_source = meaning.reads.is_empty() && other.reads.is_empty();
        let mut changes = own(id, meaning, other);
        changes.retain(|(aspect, _)| !is_source || aspect.selects_records());
        let mut changes: Vec<Change> = changes.into_iter().map(|(_, change)| change).collect();
        for upstream in upstream(id, &before, &now) {
            let (Some(before), Some(now)) = (before.get(&upstream), now.get(&upstream)) else {
                // A changed input is reported already.
                continue;
            };
            for (aspect, mut change) in own(&upstream, before, now) {
                // It is no matter of the rows.
                if matches!(aspect, Aspect::TimeToLive) {
                    continue;
                }
                change.part = format!("{} of `{upstream}`", change.part.trim_end_matches(" above it"));
                changes.push(change);
            }
        }
        if !changes.is_empty() {
            let edited = edits.above(id);
            for change in &mut changes {
                change.edited.clone_from(&edited);
            }
            differences.changes.insert(id.clone(), changes);
        }
    }
    differences
}

/// Returns true if two graphs compute and write the same, whatever their names.
fn is_same_plan(old: &JobGraph, new: &JobGraph) -> bool {
    old.max_parallelism == new.max_parallelism && explain::content_fingerprint(old) == explain::content_fingerprint(new)
}

/// Returns the differences in an operator's own parts. If its input changed, all expressions over it differ, so nothing
/// else is reported.
fn own<'m>(id: &OperatorId, before: &'m Meaning, now: &'m Meaning) -> Vec<(&'m Aspect, Change)> {
    let aspects: BTreeSet<&Aspect> = before.parts.keys().chain(now.parts.keys()).collect();
    let changes = aspects
        .into_iter()
        .filter_map(|aspect| Some((aspect, change(id, aspect, before, now)?)));
    let mut changes: Vec<_> = changes.collect();
    let is_input = |aspect: &Aspect| matches!(aspect, Aspect::Reads(_));
    if changes.iter().any(|(aspect, _)| is_input(aspect)) {
        changes.retain(|(aspect, _)| is_input(aspect));
    }
    // Repeats the differences of the parts, unless only their combination differs.
    if changes.iter().any(|(aspect, _)| !matches!(aspect, Aspect::Union(_))) {
        changes.retain(|(aspect, _)| !matches!(aspect, Aspect::Union(_)));
    }
    changes
}

/// Returns everything upstream of an operator, in either pipeline.
fn upstream(id: &OperatorId, before: &Meanings, now: &Meanings) -> BTreeSet<OperatorId> {
    let mut found = BTreeSet::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        for meaning in [before.get(id), now.get(id)].into_iter().flatten() {
            for read in &meaning.reads {
                if found.insert(read.clone()) {
                    next.push(read);
                }
            }
        }
    }
    found
}

/// Returns the difference in one aspect, if there is one.
fn change(operator: &OperatorId, aspect: &Aspect, before: &Meaning, now: &Meaning) -> Option<Change> {
    let items = |meaning: &Meaning| -> Vec<Item> {
        let mut items = meaning.parts.get(aspect).cloned().unwrap_or_default();
        if !aspect.is_ordered() {
            items.sort_by(|a, b| a.exact.cmp(&b.exact));
            items.dedup_by(|a, b| a.exact == b.exact);
        }
        items
    };
    let (before, now) = (items(before), items(now));
    let exact = |items: &[Item]| items.iter().map(|item| item.exact.clone()).collect::<Vec<_>>();
    if exact(&before) == exact(&now) {
        return None;
    }
    // If one of the policies fails the job, no failed row is in the state.
    if matches!(aspect, Aspect::Errors(_)) && (before.is_empty() || now.is_empty()) {
        return None;
    }
    // Columns that only one pipeline uses are differences of the expressions that use them.
    let (before, now) = match aspect {
        Aspect::Types => {
            let column = |item: &Item| item.exact.split('\0').next().unwrap_or_default().to_string();
            let of = |items: &[Item]| items.iter().map(column).collect::<BTreeSet<_>>();
            let both: BTreeSet<String> = of(&before).intersection(&of(&now)).cloned().collect();
            let kept = |items: Vec<Item>| -> Vec<Item> {
                items.into_iter().filter(|item| both.contains(&column(item))).collect()
            };
            (kept(before), kept(now))
        }
        _ => (before, now),
    };
    if exact(&before) == exact(&now) {
        return None;
    }
    let (old, new) = match aspect.is_ordered() && before.len() == now.len() {
        true => {
            let pairs = before
                .iter()
                .zip(&now)
                .filter(|(before, now)| before.exact != now.exact);
            pairs.map(|(before, now)| (before.clone(), now.clone())).unzip()
        }
        false if aspect.is_ordered() => (before, now),
        false => (without(&before, &now), without(&now, &before)),
    };
    let separator = match aspect {
        Aspect::Filter(_) | Aspect::Condition => " AND ",
        Aspect::Types => "; ",
        _ => ", ",
    };
    let text = |items: &[Item]| {
        let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
        texts.join(separator)
    };
    let (old_text, mut new_text) = (text(&old), text(&new));
    if old_text == new_text {
        new_text.push_str(", with constants of other types or nested in another way");
    }
    Some(Change {
        operator: operator.clone(),
        part: aspect.to_string(),
        old: old_text,
        new: new_text,
        edited: Vec::new(),
        is_unreadable: matches!(aspect, Aspect::TimeToLive),
    })
}

fn without(items: &[Item], others: &[Item]) -> Vec<Item> {
    let found = |item: &&Item| !others.iter().any(|other| other.exact == item.exact);
    items.iter().filter(found).cloned().collect()
}

/// Names of edited steps, tables and inserts, for messages.
struct Edits {
    edited: BTreeMap<String, &'static str>,
    /// Inputs of each part, in either pipeline.
    reads: BTreeMap<String, BTreeSet<String>>,
}

impl Edits {
    fn new(old: &Pipeline, new: &Pipeline) -> Self {
        let (before, now) = (parts(old), parts(new));
        let mut edits = Self {
            edited: BTreeMap::new(),
            reads: BTreeMap::new(),
        };
        for (name, part) in before.iter().chain(&now) {
            edits
                .reads
                .entry(name.clone())
                .or_default()
                .extend(part.reads.iter().cloned());
            let text = |parts: &BTreeMap<String, Part>| parts.get(name).map(|part| part.text.clone());
            if text(&before) != text(&now) {
                edits.edited.insert(name.clone(), part.kind);
            }
        }
        edits
    }

    /// Returns the edited parts that an operator's step consists of, else all edited parts: the optimiser may evaluate
    /// a condition before the input of its query.
    fn above(&self, id: &OperatorId) -> Vec<String> {
        let owner = id.0.rsplit_once('/').map_or(id.0.as_str(), |(owner, _)| owner);
        let mut above = BTreeSet::new();
        let mut next = vec![owner];
        while let Some(name) = next.pop() {
            if above.insert(name)
                && let Some(reads) = self.reads.get(name)
            {
                next.extend(reads.iter().map(String::as_str));
            }
        }
        let found: Vec<String> = self
            .edited
            .iter()
            .filter(|(name, _)| above.contains(name.as_str()))
            .map(described)
            .collect();
        match found.is_empty() {
            true => self.all(),
            false => found,
        }
    }

    fn all(&self) -> Vec<String> {
        self.edited.iter().map(described).collect()
    }
}

fn described((name, kind): (&String, &&'static str)) -> String {
    format!("{kind} `{name}`")
}

/// A step, table or insert of a pipeline.
struct Part {
    kind: &'static str,
    /// Text that is equal unless something other than white space and comments was edited.
    text: String,
    reads: BTreeSet<String>,
}

fn parts(pipeline: &Pipeline) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::new();
    for table in &pipeline.tables {
        let definition = &table.definition.0;
        let text = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            definition.schema,
            definition.metadata,
            millstream_connectors::registry::row_options(definition),
            table.columns,
            table.on_error
        );
        let kind = "table";
        let reads = BTreeSet::new();
        parts.insert(table.name.clone(), Part { kind, text, reads });
    }
    for insert in &pipeline.inserts {
        let (text, reads) = match &insert.input {
            InsertInput::Plan(plan) => (plan.display_indent().to_string(), reads(plan)),
            InsertInput::Late { step, of } => (format!("late {step} {of:?}"), BTreeSet::from([step.clone()])),
            InsertInput::DeadLetters { name } => (format!("dead letters {name}"), BTreeSet::from([name.clone()])),
        };
        let part = parts.entry(insert.table.name.clone()).or_insert_with(|| Part {
            kind: "sink",
            text: String::new(),
            reads: BTreeSet::new(),
        });
        part.kind = "sink";
        part.text.push_str(&text);
        part.reads.extend(reads);
    }
    for step in &pipeline.steps {
        let text = format!("{} {:?}", step.plan.display_indent(), step.on_error);
        let reads = reads(&step.plan);
        let kind = "step";
        parts.insert(step.name.clone(), Part { kind, text, reads });
    }
    parts
}

/// Returns the steps and tables that a plan names.
fn reads(plan: &LogicalPlan) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|plan| {
        match plan {
            LogicalPlan::Extension(extension) => {
                let step = extension.node.as_any().downcast_ref::<StepReference>();
                names.extend(step.map(|step| step.name.clone()));
                names.extend(SideOutputScan::of(plan).map(|scan| scan.owner.clone()));
            }
            LogicalPlan::TableScan(scan) => {
                let table = scan.source.downcast_ref::<CatalogTable>();
                names.extend(table.map(|table| table.table.name.clone()));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
    names
}
