//! Window joins: the windows that the condition requires to be equal.

use datafusion::common::JoinType;
use millstream_graph::{Window, WindowColumns};

use super::fills_with_null;
use super::side::{PreparedSide, Side};
use crate::translate::context::{Context, Result};
use crate::translate::relation::{Attribute, Bound, ColumnInfo, WindowId};

/// Returns the windows of both sides that the condition requires to be equal, if windows of the one are windows of the
/// other.
pub(super) fn common(cx: &Context<'_>, left: &Side, right: &Side) -> Option<(WindowId, WindowId)> {
    let keys = left.keys.iter().zip(&right.keys);
    let pairs: Vec<(WindowId, WindowId, Bound)> = keys
        .filter_map(|pair| match pair {
            (&(_, Attribute::Window(a, x)), &(_, Attribute::Window(b, y))) if x == y => Some((a, b, x)),
            _ => None,
        })
        .collect();
    let found = pairs.iter().find(|&&(a, b, _)| {
        let equal = |bound| pairs.contains(&(a, b, bound));
        let end = equal(Bound::End) || equal(Bound::Time) || equal(Bound::Instant);
        let (of_left, of_right) = (&cx.windows[a], &cx.windows[b]);
        // For equal window definitions, one bound determines the other.
        let is_session = matches!(of_left.window, Window::Session { .. });
        let is_complete = (end && (equal(Bound::Start) || !is_session))
            || (equal(Bound::Start) && of_left.start_determines_end() && !is_session);
        is_complete && of_left.window == of_right.window && !of_left.processing_time && !of_right.processing_time
    });
    found.map(|&(left, right, _)| (left, right))
}

/// Returns true if a pair of keys is the same bound of these windows.
pub(super) fn are_bounds(left: (Attribute, WindowId), right: (Attribute, WindowId)) -> bool {
    match (left, right) {
        ((Attribute::Window(a, x), left), (Attribute::Window(b, y), right)) => a == left && b == right && x == y,
        _ => false,
    }
}

/// Returns the columns of a side that bound a window.
pub(super) fn columns(cx: &Context<'_>, side: &PreparedSide, id: WindowId) -> Result<WindowColumns> {
    let position = |bound| {
        side.columns
            .iter()
            .position(|column| column.attribute == Attribute::Window(id, bound))
    };
    let end = position(Bound::End);
    let end = end.ok_or_else(|| cx.error("select window_end (and window_start) on both sides of the join"))?;
    let start = position(Bound::Start);
    let start = start.ok_or_else(|| cx.error("select window_start (and window_end) on both sides of the join"))?;
    Ok(WindowColumns { start, end })
}

/// Removes the time attributes that the output loses: event times before the windows' ends, and the windows of a side
/// that an outer join fills with NULL.
pub(super) fn set_attributes(
    infos: &mut [ColumnInfo],
    width: usize,
    join_type: JoinType,
    left: WindowId,
    right: WindowId,
) {
    for (index, info) in infos.iter_mut().enumerate() {
        let is_left = index < width;
        info.attribute = match info.attribute {
            Attribute::Window(_, _) if fills_with_null(join_type, is_left) => Attribute::None,
            Attribute::Window(id, bound) if !is_left && id == right && join_type == JoinType::Inner => {
                Attribute::Window(left, bound)
            }
            Attribute::Window(id, bound) if id == left || id == right => Attribute::Window(id, bound),
            _ => Attribute::None,
        };
    }
}
