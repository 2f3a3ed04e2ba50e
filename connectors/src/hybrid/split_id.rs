//! Ids of splits: those of the parts, with a prefix.

use crate::Split;

/// Prefix of the id of a part of the files.
pub(super) const HISTORY_SPLIT: &str = "history/";
/// Prefix of the id of a partition.
pub(super) const TOPIC_SPLIT: &str = "topic/";

/// Returns splits with the prefix of their part.
pub(super) fn prefixed(prefix: &'static str, splits: Vec<Split>) -> impl Iterator<Item = Split> {
    splits.into_iter().map(move |split| Split {
        id: format!("{prefix}{}", split.id),
        ..split
    })
}
