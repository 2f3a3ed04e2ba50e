//! The meaning of state: what an operator's stored state was computed from, and how.
//!
//! State of one layout can have many meanings: `SUM(a)` and `SUM(a + 1)` both keep one number. A job that resumes
//! with the other meaning would add both up in the windows that are open. So both pipelines, the checkpoint's and the
//! one that is to resume from it, are planned by the same engine, and the operators that keep state are compared with
//! everything upstream of them ([`compare`]): the expressions over the columns of source tables, not their texts.
//! What keeps no state has no meaning of its own; it is part of the meaning of what reads it, and what comes after
//! the last state is free.
//!
//! Not compared: watermarks (they decide when windows fire), allowed lateness, parallelism, sinks, the options of
//! sources that change neither which records are read nor what their rows are, and the choice between failing a job
//! and anything else for rows that fail, because a job that fails has no such row in its state.

mod changes;
mod rows;
mod symbol;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::symbol::Item;
use crate::logical::Pipeline;
use crate::{Errors, Input, PlanOptions, front_end, translate};
use millstream_graph::{JobGraph, OperatorId};

pub use self::changes::compare;

/// A pipeline with its graph.
#[derive(Debug)]
pub struct Planned {
    pipeline: Pipeline,
    pub graph: JobGraph,
}

/// Plans a pipeline so that it can be compared. Both of two pipelines must be planned with the same
/// [`PlanOptions::now_us`], or `NOW()` is a difference.
pub fn plan(input: Input<'_>, options: &PlanOptions) -> Result<Planned, Errors> {
    let pipeline = front_end(input, options)?;
    let graph = stacker::grow(crate::STACK_BYTES, || translate::translate(&pipeline, options))?;
    Ok(Planned { pipeline, graph })
}

/// The differences between two pipelines that matter to state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// For each operator with state that both have and whose meaning differs: what is different, in it and upstream.
    pub changes: BTreeMap<OperatorId, Vec<Change>>,
    /// Operators that only the old pipeline has, with one of the same meaning that only the new one has.
    pub renamed: BTreeMap<OperatorId, OperatorId>,
    /// The plans differ in anything at all: then the steps, tables and inserts that were edited.
    pub other_plan: Option<Vec<String>>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The operator with state that it belongs to: the one asked about, or one upstream of it.
    pub operator: OperatorId,
    /// The part of the operator's meaning, such as `the filter above it`.
    pub what: String,
    /// Empty: nothing.
    pub old: String,
    pub new: String,
    /// The steps, tables and inserts upstream that were edited; where there are none, all that were.
    pub edited: Vec<String>,
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
            self.what,
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
    /// The sources and operators with state directly upstream.
    reads: BTreeSet<OperatorId>,
}

impl Meaning {
    /// Adds to an aspect, and the columns that it uses to the types.
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
    /// Of a source.
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
    Order,
    Ranks,
    Columns(Side),
    /// Which conditions go with which columns, where several are united.
    Union(Side),
}

/// Which input of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Only,
    Left,
    Right,
}

impl Aspect {
    /// The order of its items counts.
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
            | Self::Ranks
            | Self::Union(_) => false,
        }
    }

    /// A source's position belongs to it.
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
            Self::Order => ("the ORDER BY", None),
            Self::Ranks => ("the ranks", None),
            Self::Columns(side) => ("the columns of the rows", Some(side)),
            Self::Union(side) => ("the union above it", Some(side)),
        };
        match side {
            None | Some(Side::Only) => f.write_str(words),
            Some(Side::Left) => write!(f, "{words} (left input)"),
            Some(Side::Right) => write!(f, "{words} (right input)"),
        }
    }
}
