//! Errors of single cells and records.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// The reason why a cell or a record cannot be parsed. Small, because the result of every cell has space for one.
#[derive(Debug)]
pub(super) struct ParseError(pub Box<str>);

impl ParseError {
    /// Creates an error from its message.
    pub(super) fn new(message: impl Into<Box<str>>) -> Self {
        Self(message.into())
    }

    /// Creates the error of a text that is not a value of the expected type: `an INT`.
    pub(super) fn expected(text: &[u8], expected: &str) -> Self {
        Self::new(format!("{} is not {expected}", excerpt(text)))
    }

    /// Adds the name of the column or field that the error is in.
    pub(super) fn in_column(self, name: &str) -> Self {
        let text = match self.0.strip_prefix("column `") {
            Some(rest) => format!("column `{name}.{rest}"),
            None => format!("column `{name}`: {}", self.0),
        };
        Self(text.into())
    }
}

/// The result of appending one cell.
pub(super) type CellResult = Result<(), ParseError>;

/// Quotes the beginning of a text for an error message.
pub(super) fn excerpt(text: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    match text.get(..SHOWN_BYTES_MAX) {
        Some(shown) if text.len() > SHOWN_BYTES_MAX => format!("`{}…`", String::from_utf8_lossy(shown)),
        _ => format!("`{}`", String::from_utf8_lossy(text)),
    }
}
