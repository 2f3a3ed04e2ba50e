//! The meaning of state: the definition of the values that an operator stores.
//!
//! State of one layout can have many meanings: `SUM(a)` and `SUM(a + 1)` both store one number. A job that resumed with
//! the other meaning would add both up in open windows. So the pipeline of the checkpoint and the one that resumes from
//! it are planned by the same engine, and stateful operators are compared with everything upstream of them
//! ([`compare`]): by their expressions over the columns of source tables, not by their texts. Stateless operators have
//! no meaning of their own: they are part of the meaning of the stateful operators downstream. Operators after the last
//! stateful one may change freely.
//!
//! Not compared: watermarks (they determine when windows fire), allowed lateness, parallelism, sinks, options of
//! sources that change neither the records nor their rows, and a change of the error policy from failing the job to
//! another, because a job that would have failed has no failed row in its state.

mod changes;
mod items;
mod rows;
mod symbol;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millstream_graph::{JobGraph, OperatorId};

use self::symbol::Item;
use crate::logical::Pipeline;
use crate::{Errors, Input, PlanOptions, front_end, translate};

pub use self::changes::compare;

/// A pipeline with its graph.
#[derive(Debug)]
pub struct Planned {
    pipeline: Pipeline,
    pub graph: JobGraph,
}

/// Plans a pipeline for a comparison. Both pipelines must be planned with the same [`PlanOptions::now_us`], or `NOW()`
/// is a difference.
pub fn plan(input: Input<'_>, options: &PlanOptions) -> Result<Planned, Errors> {
    let pipeline = front_end(input, options)?;
    let graph = stacker::grow(crate::STACK_BYTES, || translate::translate(&pipeline, options))?;
    Ok(Planned { pipeline, graph })
}

/// Differences between two pipelines that concern state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Differences of each stateful operator that both pipelines have and whose meaning differs, in it and upstream.
    pub changes: BTreeMap<OperatorId, Vec<Change>>,
    /// Operators that only the old pipeline has, each with one of the same meaning that only the new pipeline has.
    pub renamed: BTreeMap<OperatorId, OperatorId>,
    /// Edited steps, tables and inserts; `None` if the plans are equal.
    pub other_plan: Option<Vec<String>>,
}

/// A difference in one part of the meaning of an operator's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Stateful operator that differs: the compared one, or one upstream of it.
    pub operator: OperatorId,
    /// Part of the operator's meaning, such as `the filter above it`.
    pub part: String,
    /// Text of the part in the old pipeline; empty if it has none.
    pub old: String,
    /// Text of the part in the new pipeline; empty if it has none.
    pub new: String,
    /// Edited steps, tables and inserts upstream; all edited ones if there are none upstream.
    pub edited: Vec<String>,
    /// True if the operator would not find what it has stored: rows are stored by the time at which they expire.
    pub is_unreadable: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| match text {
            "" => "none".to_string(),
            text => format!("`{text}`"),
        };
        write!(
            f,
            "{} changed from {} to {}",
            self.part,
            or_none(&self.old),
            or_none(&self.new)
        )?;
        match self.edited.as_slice() {
            [] => Ok(()),
            edited => write!(f, " (edited: {})", edited.join(", ")),
        }
    }
}

/// The meaning of one operator's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Meaning {
    parts: BTreeMap<Aspect, Vec<Item>>,
    /// Sources and stateful operators directly upstream.
    reads: BTreeSet<OperatorId>,
}

impl Meaning {
    /// Adds an item to an aspect, and the columns that it uses to the types.
    fn add(&mut self, aspect: Aspect, items: impl IntoIterator<Item = Item>) {
        let items: Vec<Item> = items.into_iter().collect();
        let fields: BTreeSet<&String> = items.iter().flat_map(|item| &item.fields).collect();
        let types = fields.into_iter().map(|field| Item {
            text: field.replace('\0', " "),
            ..Item::new(field)
        });
        self.parts.entry(Aspect::Types).or_default().extend(types);
        if !items.is_empty() {
            self.parts.entry(aspect).or_default().extend(items);
        }
    }
}

/// A part of an operator's meaning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    /// Records and rows of a source.
    Option {
        name: String,
        selects_records: bool,
    },
    PartitionedBy,
    Types,
    Reads(Side),
    Filter(Side),
    Errors(Side),
    Copies(Side),
    WindowOf(Side),
    Window,
    Time,
    Keys,
    Aggregates,
    JoinType,
    On,
    Condition,
    /// The time at which rows of an interval join expire.
    Expiry(Side),
    Order,
    Ranks,
    Emission,
    TimeToLive,
    Columns(Side),
    /// The combination of conditions and columns, where several branches are united.
    Union(Side),
}

/// An input of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Only,
    Left,
    Right,
    /// One of several, numbered from 0.
    Numbered(usize),
}

impl Aspect {
    /// Returns true if the order of the aspect's items is significant.
    fn is_ordered(&self) -> bool {
        match self {
            Self::Keys | Self::Aggregates | Self::Order | Self::On | Self::Columns(_) | Self::PartitionedBy => true,
            Self::Option { .. }
            | Self::Types
            | Self::Reads(_)
            | Self::Filter(_)
            | Self::Errors(_)
            | Self::Copies(_)
            | Self::WindowOf(_)
            | Self::Window
            | Self::Time
            | Self::JoinType
            | Self::Condition
            | Self::Expiry(_)
            | Self::Ranks
            | Self::Emission
            | Self::TimeToLive
            | Self::Union(_) => false,
        }
    }

    /// Returns true if the position of a source depends on the aspect.
    fn selects_records(&self) -> bool {
        matches!(
            self,
            Self::Option {
                selects_records: true,
                ..
            }
        )
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, side) = match self {
            Self::Option { name, .. } => return write!(f, "the option '{name}'"),
            Self::PartitionedBy => ("the partition columns", None),
            Self::Types => ("the source columns", None),
            Self::Reads(side) => ("the input", Some(side)),
            Self::Filter(side) => ("the filter above it", Some(side)),
            Self::Errors(side) => ("the treatment of rows that fail", Some(side)),
            Self::Copies(side) => ("the window that rows are given", Some(side)),
            Self::WindowOf(side) => ("the bounds of the window", Some(side)),
            Self::Window => ("the window", None),
            Self::Time => ("the time column", None),
            Self::Keys => ("the key", None),
            Self::Aggregates => ("the aggregate", None),
            Self::JoinType => ("the kind of join", None),
            Self::On => ("the columns that must be equal", None),
            Self::Condition => ("the condition of the join", None),
            Self::Expiry(side) => ("the time until which rows are kept", Some(side)),
            Self::Order => ("the ORDER BY", None),
            Self::Ranks => ("the ranks", None),
            Self::Emission => ("the rows that are emitted", None),
            Self::TimeToLive => ("the time to live of state", None),
            Self::Columns(side) => ("the columns of the rows", Some(side)),
            Self::Union(side) => ("the union above it", Some(side)),
        };
        match side {
            None | Some(Side::Only) => f.write_str(words),
            Some(Side::Left) => write!(f, "{words} (left input)"),
            Some(Side::Right) => write!(f, "{words} (right input)"),
            Some(Side::Numbered(input)) => write!(f, "{words} (input {})", input + 1),
        }
    }
}
