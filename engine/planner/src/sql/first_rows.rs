//! `ORDER BY`, `LIMIT`, `OFFSET` and `FETCH` of a query, which together select its first rows.

use datafusion::sql::sqlparser::ast::{LimitClause, Query, Spanned};

use super::group_windows::SpannedError;

/// Writes `FETCH FIRST n ROWS ONLY` as `LIMIT n`, and refuses an order without a limit, unless the job is a batch.
pub(super) fn first_rows(query: &mut Query, is_batch: bool) -> Result<(), SpannedError> {
    if let Some(fetch) = query.fetch.take() {
        let span = query.body.span();
        if fetch.with_ties || fetch.percent {
            return Err((
                "FETCH takes a number of rows: FETCH FIRST n ROWS ONLY. For ties, use RANK() OVER (ORDER BY ...) AS rn \
                 with WHERE rn <= n"
                    .into(),
                span,
            ));
        }
        let offset = match query.limit_clause.take() {
            None => None,
            Some(LimitClause::LimitOffset {
                limit: None, offset, ..
            }) => offset,
            Some(_) => return Err(("a query has either LIMIT or FETCH".into(), span)),
        };
        query.limit_clause = Some(LimitClause::LimitOffset {
            // Without a number, it is one row.
            limit: Some(fetch.quantity.unwrap_or_else(crate::ast::one)),
            offset,
            limit_by: Vec::new(),
        });
    }
    match (&query.order_by, &query.limit_clause) {
        (Some(order), None) if !is_batch => Err((
            "ORDER BY needs the end of its input, which a stream does not have: leave it out, add a LIMIT, or run a \
             batch"
                .into(),
            order.span(),
        )),
        (_, Some(LimitClause::LimitOffset { limit: None, .. })) => Err((
            "OFFSET needs a LIMIT on a stream: the rows after the first ones have no end".into(),
            query.body.span(),
        )),
        (_, Some(LimitClause::LimitOffset { limit_by, .. })) if !limit_by.is_empty() => Err((
            "LIMIT BY is not supported: use ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn with WHERE rn <= n"
                .into(),
            query.body.span(),
        )),
        _ => Ok(()),
    }
}
