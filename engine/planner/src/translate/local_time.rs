//! Windows over `TIMESTAMP_LTZ` in a time zone other than UTC, as Flink has them.
//!
//! * Of event time: rows are assigned to windows by their local time, and the bounds are local times. The watermark of
//!   the source is one of local times, too, so operators need not know of time zones. `window_time`, an instant, is
//!   computed from the end.
//! * Of processing time: operators compare the clock with the bounds, so windows are those of UTC, moved by the offset
//!   of the zone, and the bounds are converted to local times. That is possible if the offset of the zone never changes
//!   by a part of a window.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExprRef, ScalarFunctionExpr};
use millstream_graph::Window;
use millstream_graph::sql_type::{timestamp, timestamp_ltz};

use super::context::{Context, Result};
use crate::functions::{self, Zone};

/// Returns the local time of an instant in a zone.
pub(super) fn to_local(cx: &Context<'_>, instant: PhysicalExprRef, zone: &str) -> PhysicalExprRef {
    let function = functions::to_local();
    // The end of a window, converted to `window_time`.
    if let Some(call) = instant.downcast_ref::<ScalarFunctionExpr>()
        && call.fun() == &functions::to_instant()
        && let Some(local) = call.args().first()
    {
        return local.clone();
    }
    converted(cx, function, instant, zone, timestamp())
}

/// Returns the instant of a local time in a zone.
pub(super) fn to_instant(cx: &Context<'_>, local: PhysicalExprRef, zone: &str) -> PhysicalExprRef {
    converted(cx, functions::to_instant(), local, zone, timestamp_ltz())
}

fn converted(
    cx: &Context<'_>,
    function: ScalarUDF,
    time: PhysicalExprRef,
    zone: &str,
    data_type: DataType,
) -> PhysicalExprRef {
    let name = function.name().to_owned();
    let field = Arc::new(Field::new(&name, data_type, true));
    let zone: PhysicalExprRef = Arc::new(Literal::new(ScalarValue::from(zone)));
    Arc::new(ScalarFunctionExpr::new(
        &name,
        Arc::new(function),
        vec![time, zone],
        field,
        cx.planning.config().clone(),
    ))
}

/// Returns the windows of processing time in a zone as windows of UTC.
pub(super) fn of_processing_time(cx: &Context<'_>, window: Window, zone: &str) -> Result<Window> {
    let parsed = Zone::new(zone).map_err(|message| cx.error(message))?;
    let moved = |offset: i64, length: i64| (offset - parsed.offset_at(0)).rem_euclid(length);
    let (length, window) = match window {
        Window::Tumble { size, offset } => (
            size,
            Window::Tumble {
                size,
                offset: moved(offset, size),
            },
        ),
        Window::Hop { size, slide, offset } => (
            slide,
            Window::Hop {
                size,
                slide,
                offset: moved(offset, slide),
            },
        ),
        Window::Cumulate { size, step, offset } => (
            size,
            Window::Cumulate {
                size,
                step,
                offset: moved(offset, size),
            },
        ),
        // A session has no alignment.
        Window::Session { .. } | Window::Attached(_) => return Ok(window),
    };
    if parsed.keeps_multiples_of(length) {
        return Ok(window);
    }
    Err(cx.error(format!(
        "windows of PROCTIME() of {} are not supported in the time zone {zone}, whose offset from UTC changes within a \
         window: use event time, with WATERMARK FOR, or a shorter window",
        crate::explain::duration(length)
    )))
}
