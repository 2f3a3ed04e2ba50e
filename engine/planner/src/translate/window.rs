//! Window table functions: pending until an aggregate takes the window in, else rows are marked with their windows.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::Column;

use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, PendingWindow, Relation, VIRTUAL, WindowInfo, all_columns,
    bare_column, stream, substitute,
};
use super::sinks::SideOutput;
use super::{Result, Translator};
use crate::logical::{WINDOW_COLUMNS, WindowFunction, WindowTableFunction};
use millstream_graph::{Operator, TimeAttribute, Window, WindowAssign};

impl Translator<'_> {
    pub(super) fn window_function(&mut self, function: &WindowTableFunction) -> Result<Relation> {
        let window = self.checked_window(function.window)?;
        let input = self.plan(&function.input)?;
        let input = self.resolve(input)?;
        let schema = function.input.schema();
        let time = self.located(schema.index_of_column(&function.time_column))?;
        let event_time = self.follows_watermark(&input.columns[time])?;
        let mut carried = Vec::new();
        if event_time {
            carried.push(time);
        }
        for key in &function.partition_by {
            carried.push(self.located(schema.index_of_column(key))?);
        }
        let late = if function.keep_all_columns {
            carried.extend(0..input.columns.len());
            input.columns.clone()
        } else {
            Vec::new()
        };

        let read = |&index: &usize| -> PhysicalExprRef { Arc::new(Column::new(&input.columns[index].name, index)) };
        let read: Vec<PhysicalExprRef> = carried.iter().map(read).collect();
        let input = self.materialize_if_volatile(input, &read)?;

        let id = self.windows.len();
        self.windows.push(WindowInfo {
            window,
            processing_time: !event_time,
        });
        let mut branches = input.branches;
        for branch in &mut branches {
            branch.carried = carried.iter().map(|&index| branch.exprs[index].clone()).collect();
            branch.exprs.extend(Bound::ALL.map(virtual_bound));
        }
        let mut columns = input.columns;
        let first = function.schema.fields().len() - WINDOW_COLUMNS.len();
        for (bound, field) in Bound::ALL.into_iter().zip(&function.schema.fields()[first..]) {
            columns.push(ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute: Attribute::Window(id, bound),
                origin: None,
            });
        }
        Ok(Relation {
            branches,
            columns,
            pending: Pending::Window(PendingWindow {
                id,
                window,
                event_time,
                key_count: function.partition_by.len(),
                late,
                filtered: false,
            }),
        })
    }

    fn checked_window(&self, function: WindowFunction) -> Result<Window> {
        let positive = |what: &str, value: i64| {
            if value > 0 {
                Ok(())
            } else {
                Err(self.error(format!("the {what} of a window must be longer than nothing")))
            }
        };
        Ok(match function {
            WindowFunction::Tumble { size, offset } => {
                positive("size", size)?;
                Window::Tumble { size, offset }
            }
            WindowFunction::Hop { size, slide, offset } => {
                positive("size", size)?;
                positive("slide", slide)?;
                if size % slide != 0 {
                    return Err(self.error(format!(
                        "HOP: the size ({}) must be a multiple of the slide ({})",
                        crate::explain::duration(size),
                        crate::explain::duration(slide)
                    )));
                }
                Window::Hop { size, slide, offset }
            }
            WindowFunction::Cumulate { size, step, offset } => {
                positive("size", size)?;
                positive("step", step)?;
                if size % step != 0 {
                    return Err(self.error(format!(
                        "CUMULATE: the size ({}) must be a multiple of the step ({})",
                        crate::explain::duration(size),
                        crate::explain::duration(step)
                    )));
                }
                Window::Cumulate { size, step, offset }
            }
            WindowFunction::Session { gap } => {
                positive("gap", gap)?;
                Window::Session { gap }
            }
        })
    }

    /// Whether a window's time column follows the watermark (else: the clock). Refuses ordinary columns.
    fn follows_watermark(&self, column: &ColumnInfo) -> Result<bool> {
        match column.attribute {
            Attribute::EventTime => Ok(true),
            Attribute::ProcessingTime => Ok(false),
            Attribute::Window(id, Bound::Time) if !self.windows[id].processing_time => Ok(true),
            Attribute::Window(_, bound) => Err(self.error(format!(
                "`{}` is a window's {}, not a time attribute: windows over windows use the column `window_time`",
                column.name,
                match bound {
                    Bound::Start => "start",
                    Bound::End => "end",
                    Bound::Time => "time on the clock",
                }
            ))),
            Attribute::None => Err(self.error(self.missing_event_time(column))),
        }
    }

    fn missing_event_time(&self, column: &ColumnInfo) -> String {
        let Some((table, name)) = &column.origin else {
            return format!(
                "`{}` is not an event-time column: a window needs the column that the table's WATERMARK FOR names, \
                 passed on unchanged",
                column.name
            );
        };
        let declared = self
            .pipeline
            .tables
            .iter()
            .find(|declared| declared.name == *table)
            .and_then(|declared| declared.watermark.as_ref());
        match declared {
            Some(watermark) if watermark.column == *name => format!(
                "`{}` was the event time of table `{table}`, but rows lost it on the way (behind a join or the first \
                 rows of a window only `window_time` is a time attribute)",
                column.name
            ),
            Some(watermark) => format!(
                "`{name}` is not the event time of table `{table}`, `{event_time}` is: use DESCRIPTOR({event_time}), or \
                 declare WATERMARK FOR `{name}` instead",
                event_time = watermark.column
            ),
            None => format!(
                "table `{table}` has no event time, which a window on `{name}` needs: add to its columns \
                 `WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND` (in YAML: `event_time: {{ column: {name}, \
                 out_of_orderness: 5s }}`)"
            ),
        }
    }

    /// Makes nodes of a pending window or rank, so that all columns exist.
    pub(super) fn resolve(&mut self, relation: Relation) -> Result<Relation> {
        match relation.pending {
            Pending::Nothing => Ok(relation),
            Pending::Window(_) => self.assign(relation),
            Pending::Rank(_) => self.top_n(relation),
        }
    }

    /// Marks each row with the windows it belongs to.
    fn assign(&mut self, mut relation: Relation) -> Result<Relation> {
        let Pending::Window(pending) = &relation.pending else {
            return Ok(relation);
        };
        let pending = pending.clone();
        if let Window::Session { .. } = pending.window {
            return Err(self.error(
                "a SESSION window must be aggregated directly: SELECT ... FROM TABLE(SESSION(TABLE t PARTITION BY \
                 keys, DESCRIPTOR(ts), gap)) GROUP BY keys, window_start, window_end, with conditions inside the \
                 table",
            ));
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
            let branch = self.materialize_branch(&relation.branches[index].clone(), &relation.columns)?;
            let input = self.schema(branch.node);
            let time = match branch.carried.first().filter(|_| pending.event_time) {
                Some(time) => {
                    let column = bare_column(time).ok_or_else(|| self.error("a window's time is not a column"))?;
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
            let mut infos = self.plain_infos(&schema);
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
            let parallelism = self.builder.nodes[branch.node].parallelism;
            let edge = self.builder.unkeyed_edge(branch.node, 0, parallelism);
            let output = stream(schema.clone(), &infos);
            let owner = self.scope.owner.clone();
            let node = self
                .builder
                .add(&owner, "window", operator, vec![edge], output, parallelism);
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
                self.late_of_windows.entry(pending.id).or_default().push(port);
            }
            let exprs: Result<Vec<_>, _> = branch.exprs.iter().map(real).collect();
            let filter = branch.filter.as_ref().map(real).transpose();
            relation.branches[index] = Branch {
                node,
                filter: self.located(filter)?,
                exprs: self.located(exprs)?,
                // The input's columns are the first of the node's.
                carried: late_row,
            };
        }
        relation.pending = Pending::Nothing;
        Ok(relation)
    }

    /// Infos of a node's columns that say no more than its schema.
    pub(super) fn plain_infos(&self, schema: &Schema) -> Vec<ColumnInfo> {
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
}

/// A bound that no node has made yet.
fn virtual_bound(bound: Bound) -> PhysicalExprRef {
    Arc::new(Column::new(WINDOW_COLUMNS[bound as usize], bound.virtual_index()))
}
