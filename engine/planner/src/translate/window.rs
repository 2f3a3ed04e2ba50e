//! Window table functions, which stay pending until an aggregate or a join needs them.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::Column;
use millstream_graph::Window;

use super::context::{Context, Result};
use super::local_time;
use super::pending::{materialize_if_volatile, resolve};
use super::relation::{Attribute, Bound, ColumnInfo, Pending, PendingWindow, Relation, WindowId, WindowInfo};
use crate::logical::{WINDOW_COLUMNS, WindowFunction, WindowTableFunction};

/// Returns the relation with a pending window.
pub(super) fn window_function(
    cx: &mut Context<'_>,
    function: &WindowTableFunction,
    window: Window,
    input: Relation,
) -> Result<Relation> {
    let input = resolve(cx, input)?;
    let schema = function.input.schema();
    let time = cx.located(schema.index_of_column(&function.time_column))?;
    let event_time = follows_watermark(cx, &input.columns[time])?;
    let mut carried = Vec::new();
    if event_time {
        carried.push(time);
    }
    for key in &function.partition_by {
        carried.push(cx.located(schema.index_of_column(key))?);
    }
    let late = if function.keep_all_columns {
        carried.extend(0..input.columns.len());
        input.columns.clone()
    } else {
        Vec::new()
    };

    let zone = function.zone.as_deref();
    let window = match zone {
        Some(zone) if !event_time => local_time::of_processing_time(cx, window, zone)?,
        _ => window,
    };

    let read = |&index: &usize| -> PhysicalExprRef { Arc::new(Column::new(&input.columns[index].name, index)) };
    let read: Vec<PhysicalExprRef> = carried.iter().map(read).collect();
    let input = materialize_if_volatile(cx, input, &read)?;

    let id = cx.windows.len();
    cx.windows.push(WindowInfo {
        window,
        zone: function.zone.clone(),
        processing_time: !event_time,
    });
    let mut branches = input.branches;
    for branch in &mut branches {
        branch.carried = carried.iter().map(|&index| branch.exprs[index].clone()).collect();
        if let (Some(zone), true, Some(time)) = (zone, event_time, branch.carried.first_mut()) {
            *time = local_time::to_local(cx, time.clone(), zone);
        }
        let bounds = Bound::ALL.map(|bound| in_zone(cx, id, bound, virtual_bound(bound)));
        branch.exprs.extend(bounds);
    }
    let mut columns = input.columns;
    let first = function.schema.fields().len() - WINDOW_COLUMNS.len();
    for (bound, field) in Bound::ALL.into_iter().zip(&function.schema.fields()[first..]) {
        columns.push(ColumnInfo {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            attribute: Attribute::Window(
                id,
                match bound {
                    Bound::Time if event_time && zone.is_some() => Bound::Instant,
                    bound => bound,
                },
            ),
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
        }),
    })
}

/// Returns the window of a function, if its lengths are valid.
pub(super) fn checked_window(cx: &Context<'_>, function: WindowFunction) -> Result<Window> {
    let positive = |what: &str, value: i64| {
        if value > 0 {
            Ok(())
        } else {
            Err(cx.error(format!("the {what} of a window must be greater than zero")))
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
                return Err(cx.error(format!(
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
                return Err(cx.error(format!(
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

/// Returns true if the time column of a window is an event time, false if it is the processing time. Refuses other
/// columns.
fn follows_watermark(cx: &Context<'_>, column: &ColumnInfo) -> Result<bool> {
    match column.attribute {
        Attribute::EventTime => Ok(true),
        Attribute::ProcessingTime => Ok(false),
        Attribute::Window(id, Bound::Time | Bound::Instant) if !cx.windows[id].processing_time => Ok(true),
        Attribute::Window(_, bound) => Err(cx.error(format!(
            "`{}` is a window's {}, not a time attribute: windows over windows use the column `window_time`",
            column.name,
            match bound {
                Bound::Start => "start",
                Bound::End => "end",
                Bound::Time | Bound::Instant => "time on the clock",
            }
        ))),
        Attribute::None => Err(cx.error(missing_event_time(cx, column))),
    }
}

fn missing_event_time(cx: &Context<'_>, column: &ColumnInfo) -> String {
    let Some((table, name)) = &column.origin else {
        return format!(
            "`{}` is not an event-time column: a window needs the column that the table's WATERMARK FOR names, \
             passed on unchanged",
            column.name
        );
    };
    let declared = cx
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

/// Returns a column of a window as queries see it: `bound` is the operators' one, with `Bound::Time` for `window_time`.
pub(super) fn in_zone(cx: &Context<'_>, id: WindowId, bound: Bound, of_operator: PhysicalExprRef) -> PhysicalExprRef {
    let info = &cx.windows[id];
    match (&info.zone, bound, info.processing_time) {
        (Some(zone), Bound::Start | Bound::End, true) => local_time::to_local(cx, of_operator, zone),
        (Some(zone), Bound::Time | Bound::Instant, false) => local_time::to_instant(cx, of_operator, zone),
        _ => of_operator,
    }
}

/// Returns the virtual column of a bound.
fn virtual_bound(bound: Bound) -> PhysicalExprRef {
    Arc::new(Column::new(WINDOW_COLUMNS[bound as usize], bound.virtual_index()))
}
