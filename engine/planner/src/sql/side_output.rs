//! Side outputs in scripts: `INSERT INTO t SELECT * FROM v.late`, of the late rows of a view's window or join, and
//! `FROM v.dead_letters`, of the rows that a view or table failed on.

use datafusion::sql::sqlparser::ast::{ObjectNamePart, Query, SetExpr, TableFactor};

use super::tokens::place;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::logical::{InsertInput, JoinSide, LateRows};

/// Returns the side output that a query reads; `None` if it reads something else. Only `SELECT *` is possible.
pub(super) fn of_query(query: &Query, catalog: &Catalog) -> Option<Result<InsertInput, Error>> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let TableFactor::Table { name, .. } = &select.from.first()?.relation else {
        return None;
    };
    let [ObjectNamePart::Identifier(owner), ObjectNamePart::Identifier(output)] = name.0.as_slice() else {
        return None;
    };
    let late = |of| InsertInput::Late {
        step: owner.value.clone(),
        of,
    };
    let is_view = catalog.is_step(&owner.value);
    let input = match output.value.as_str() {
        "late" if is_view => late(LateRows::Aggregate),
        "late_left" if is_view => late(LateRows::Join(JoinSide::Left)),
        "late_right" if is_view => late(LateRows::Join(JoinSide::Right)),
        "dead_letters" if is_view || catalog.table(&owner.value).is_some() => InsertInput::DeadLetters {
            name: owner.value.clone(),
        },
        _ => return None,
    };
    Some(match query.to_string() == format!("SELECT * FROM {name}") {
        true => Ok(input),
        false => Err(Error {
            location: place(owner),
            message: format!(
                "a side output is written as it is: INSERT INTO t SELECT * FROM {name}, which takes the columns of `t` by \
                 name; filter or convert the rows where `t` is read"
            ),
        }),
    })
}
