//! Names of columns that the engine adds to rows, which scripts cannot use.

/// Returns true for names of columns that the engine adds.
pub(super) fn is_reserved(column: &str) -> bool {
    column.starts_with('$')
}

/// Returns the error of a column with a reserved name.
pub(super) fn reserved(column: &str) -> String {
    format!("`{column}`: names of columns that begin with `$` are reserved; choose another name")
}
