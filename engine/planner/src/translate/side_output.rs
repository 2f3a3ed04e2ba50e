//! Side outputs: the ports of late rows and dead letters, and the columns that sinks may take from them.

use std::collections::{BTreeSet, HashMap};

use arrow_schema::Schema;
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{NodeIndex, Port};

use super::relation::{ColumnInfo, WindowId, column};
use crate::logical::{Pipeline, SideOutputKind};

/// A side output of a node.
#[derive(Debug, Clone)]
pub(super) struct SideOutput {
    pub node: NodeIndex,
    pub port: Port,
    /// Names and values of its columns, over the rows of the port.
    pub columns: Vec<(String, PhysicalExprRef)>,
}

impl SideOutput {
    /// Returns the side output of the late rows of an input, with these columns.
    pub(super) fn late(node: NodeIndex, input: usize, columns: &[ColumnInfo], exprs: &[PhysicalExprRef]) -> Self {
        let names = columns.iter().map(|column| column.name.clone());
        Self {
            node,
            port: Port::Late(input),
            columns: names.zip(exprs.iter().cloned()).collect(),
        }
    }

    /// Returns the side output with all columns of a port.
    pub(super) fn whole(node: NodeIndex, port: Port, schema: &Schema) -> Self {
        let columns = schema.fields().iter().enumerate();
        Self {
            node,
            port,
            columns: columns
                .map(|(index, field)| (field.name().clone(), column(schema, index)))
                .collect(),
        }
    }

    /// Returns the value of the column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&PhysicalExprRef> {
        let found = self.columns.iter().find(|(column, _)| column == name);
        found.map(|(_, expr)| expr)
    }
}

/// The side outputs of late rows.
#[derive(Debug)]
pub(super) struct LateOutputs {
    /// Steps whose late rows are read.
    pub steps: BTreeSet<String>,
    /// Window aggregates with a port for late rows, by step.
    pub aggregates: HashMap<String, Vec<NodeIndex>>,
    /// Side outputs of window joins and interval joins, by step: of the left and the right input of each join.
    pub joins: HashMap<String, Vec<[Vec<SideOutput>; 2]>>,
    /// Side outputs of the nodes that assign rows to a window, by window: rows without a time.
    pub windows: HashMap<WindowId, Vec<SideOutput>>,
}

impl LateOutputs {
    /// Returns the steps whose late rows the pipeline reads; there are no side outputs yet.
    pub(super) fn new(pipeline: &Pipeline) -> Self {
        let read = pipeline.side_outputs_read().into_iter();
        let steps = read.filter(|(_, output)| matches!(output, SideOutputKind::Late(_)));
        Self {
            steps: steps.map(|(step, _)| step).collect(),
            aggregates: HashMap::new(),
            joins: HashMap::new(),
            windows: HashMap::new(),
        }
    }
}
