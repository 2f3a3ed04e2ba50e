//! Errors of a pipeline, each with its position in the text. All errors are reported at once.

use std::fmt;

/// A position in the user's text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A path in a spec, such as `steps.per_booth.sql`.
    Path(String),
    /// A line and column, from 1, in a SQL script or a YAML file.
    LineColumn {
        line: u64,
        column: u64,
    },
    /// A line and column inside the SQL text of a spec's step.
    Within {
        path: String,
        line: u64,
        column: u64,
    },
    Unknown,
}

/// An error in the text of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub location: Location,
    /// Description of the error and of the remedy ("unknown column `amout`; did you mean `amount`?").
    pub message: String,
}

/// All errors of a pipeline, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Path(path) => write!(f, "{path}"),
            Location::LineColumn { line, column } => write!(f, "{line}:{column}"),
            Location::Within { path, line, column } => write!(f, "{path} {line}:{column}"),
            Location::Unknown => Ok(()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Unknown => write!(f, "{}", self.message),
            location => write!(f, "{location}: {}", self.message),
        }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
impl std::error::Error for Errors {}
