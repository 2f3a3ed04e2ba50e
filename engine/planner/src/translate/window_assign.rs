//! `WindowAssign` nodes, which append the bounds of a pending window to the rows. The rows of sessions, whose bounds
//! are not known before they end, are collected instead ([`session_rows`]).

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{Operator, TimeAttribute, Window, WindowAssign};

use super::calc::materialize_branch;
use super::context::{Context, Result};
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, Relation, VIRTUAL, all_columns, bare_column, stream, substitute,
};
use super::session_rows::session_rows;
use super::side_output::SideOutput;
use crate::logical::WINDOW_COLUMNS;

/// Assigns rows to the windows of a pending window function.
pub(super) fn assign(cx: &mut Context<'_>, mut relation: Relation) -> Result<Relation> {
    let Pending::Window(pending) = &relation.pending else {
        return Ok(relation);
    };
    let pending = pending.clone();
    if let Window::Session { .. } = pending.window {
        return session_rows(cx, relation, &pending);
    }
    let window_types: Vec<DataType> = Bound::ALL
        .iter()
        .map(|&bound| {
            let of_bound = relation.column_with(Attribute::Window(pending.id, bound));
            let default = DataType::Timestamp(TimeUnit::Microsecond, None);
            of_bound.map_or(default, |index| relation.columns[index].data_type.clone())
        })
        .collect();
    for index in 0..relation.branches.len() {
        let branch = materialize_branch(cx, &relation.branches[index].clone(), &relation.columns)?;
        let input = cx.schema(branch.node);
        let time = match branch.carried.first().filter(|_| pending.event_time) {
            Some(time) => {
                let column = bare_column(time).ok_or_else(|| cx.error("a window's time is not a column"))?;
                TimeAttribute::Event(column)
            }
            None => TimeAttribute::Processing,
        };
        let width = input.fields().len();
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        for (name, data_type) in WINDOW_COLUMNS.iter().zip(&window_types) {
            fields.push(Arc::new(Field::new(*name, data_type.clone(), true)));
        }
        let schema = Arc::new(Schema::new(fields));
        let mut infos = plain_infos(&schema);
        for (info, bound) in infos[width..].iter_mut().zip(Bound::ALL) {
            info.attribute = Attribute::Window(pending.id, bound);
        }
        if let TimeAttribute::Event(column) = time {
            infos[column].attribute = Attribute::EventTime;
        }
        let operator = Operator::WindowAssign(WindowAssign {
            window: pending.window,
            time,
        });
        let output = stream(schema.clone(), &infos);
        let node = cx.add_after(branch.node, "window", operator, output);
        let made = all_columns(&schema, schema.fields().len());
        let real = |expr: &PhysicalExprRef| {
            substitute(expr, &|column| {
                if column >= VIRTUAL {
                    made.get(width + (column - VIRTUAL)).cloned()
                } else {
                    made.get(column).cloned()
                }
            })
        };
        let late_row = pending.late_row(&branch).to_vec();
        if !pending.late.is_empty() {
            let port = SideOutput::late(node, 0, &pending.late, &late_row);
            cx.late.windows.entry(pending.id).or_default().push(port);
        }
        let exprs: Result<Vec<_>, _> = branch.exprs.iter().map(real).collect();
        let filter = branch.filter.as_ref().map(real).transpose();
        relation.branches[index] = Branch {
            node,
            filter: cx.located(filter)?,
            exprs: cx.located(exprs)?,
            // The input row stays valid: its columns are the first of the new node's.
            carried: late_row,
        };
    }
    relation.pending = Pending::Nothing;
    Ok(relation)
}

/// Returns columns without attributes for a schema.
pub(super) fn plain_infos(schema: &Schema) -> Vec<ColumnInfo> {
    schema
        .fields()
        .iter()
        .map(|field| ColumnInfo {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            attribute: Attribute::None,
            origin: None,
        })
        .collect()
}
