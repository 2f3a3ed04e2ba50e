//! The bounds of `LIMIT n OFFSET m`.

use datafusion::logical_expr::{FetchType, Limit, SkipType};

use super::context::{Context, Result};

/// Returns the first and the last rank of the rows that a limit passes.
pub(super) fn ranks(cx: &Context<'_>, limit: &Limit) -> Result<(u64, u64)> {
    let SkipType::Literal(skip) = cx.located(limit.get_skip_type())? else {
        return Err(cx.error("OFFSET must be a constant"));
    };
    let rows = match cx.located(limit.get_fetch_type())? {
        FetchType::Literal(Some(rows)) => rows,
        FetchType::Literal(None) => {
            return Err(cx.error("OFFSET needs a LIMIT on a stream, whose rows after the first ones do not end"));
        }
        FetchType::UnsupportedExpr => return Err(cx.error("LIMIT must be a constant")),
    };
    let (skip, rows) = (skip as u64, rows as u64);
    Ok((skip.saturating_add(1), skip.saturating_add(rows)))
}
