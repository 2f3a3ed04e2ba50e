//! Side outputs that a script writes as they are: `INSERT INTO t SELECT * FROM v.late`, of the late rows of a view's
//! window or join, and `FROM v.dead_letters`, of the rows that a view or table failed on. Columns are matched by name.

use datafusion::sql::sqlparser::ast::{ObjectNamePart, Query, SetExpr, TableFactor};

use crate::catalog::Catalog;
use crate::logical::{InsertInput, SideOutputKind};

/// Returns the side output that a query consists of; `None` for other queries.
pub(super) fn of_query(query: &Query, catalog: &Catalog) -> Option<InsertInput> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let TableFactor::Table { name, .. } = &select.from.first()?.relation else {
        return None;
    };
    let [ObjectNamePart::Identifier(owner), ObjectNamePart::Identifier(output)] = name.0.as_slice() else {
        return None;
    };
    let is_step = catalog.is_step(&owner.value);
    let input = match SideOutputKind::named(&output.value)? {
        SideOutputKind::Late(of) if is_step => InsertInput::Late {
            step: owner.value.clone(),
            of,
        },
        SideOutputKind::DeadLetters if is_step || catalog.table(&owner.value).is_some() => InsertInput::DeadLetters {
            name: owner.value.clone(),
        },
        _ => return None,
    };
    (query.to_string() == format!("SELECT * FROM {name}")).then_some(input)
}
