//! Retryability of errors: whether, and for how long, an operation is worth repeating after it failed.

use std::io::ErrorKind;

/// The retryability of an error. Ordered by how long it is worth trying again.
///
/// Each crate's error type has a method `retry` that answers for every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// It would fail again in the same way.
    Never,
    /// An outage: a limited number of times in a row.
    Limited,
    /// A full disk, which only a person ends: until it succeeds.
    Unlimited,
}

impl Retry {
    /// Returns the retryability that another process reports.
    pub fn from_report(is_retryable: bool, is_disk_full: bool) -> Self {
        match (is_retryable, is_disk_full) {
            (_, true) => Self::Unlimited,
            (true, false) => Self::Limited,
            (false, false) => Self::Never,
        }
    }

    /// Returns the retryability of an I/O error.
    pub fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Unlimited,
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::UnexpectedEof
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::Unsupported => Self::Never,
            _ => Self::Limited,
        }
    }

    /// Returns the retryability of an error of an object store. Its client has repeated the request already.
    pub fn of_object_store(error: &object_store::Error) -> Self {
        match error {
            object_store::Error::Generic { .. } => Self::Limited,
            _ => Self::Never,
        }
    }

    /// Returns true if trying again may succeed.
    pub fn is_retryable(self) -> bool {
        self != Self::Never
    }

    /// Returns true if the cause is a full disk.
    pub fn is_disk_full(self) -> bool {
        self == Self::Unlimited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_errors_of_a_store_are_retried() {
        use object_store::Error;
        let source = || "refused".into();
        let path = || "a/b".to_string();
        let generic = Error::Generic {
            store: "S3",
            source: source(),
        };
        let denied = Error::PermissionDenied {
            path: path(),
            source: source(),
        };
        let unauthenticated = Error::Unauthenticated {
            path: path(),
            source: source(),
        };
        let missing = Error::NotFound {
            path: path(),
            source: source(),
        };
        assert_eq!(Retry::of_object_store(&generic), Retry::Limited);
        for permanent in [denied, unauthenticated, missing] {
            assert_eq!(Retry::of_object_store(&permanent), Retry::Never, "{permanent}");
        }
    }

    #[test]
    fn a_full_disk_is_retried_without_a_limit() {
        for (kind, expected) in [
            (ErrorKind::StorageFull, Retry::Unlimited),
            (ErrorKind::QuotaExceeded, Retry::Unlimited),
            (ErrorKind::TimedOut, Retry::Limited),
            (ErrorKind::PermissionDenied, Retry::Never),
        ] {
            assert_eq!(Retry::of_io(&kind.into()), expected, "{kind}");
        }
    }
}
