//! Names of the files that a sink writes.
//!
//! A file is named `part-<attempt>-<subtask>-<n>.<format>`, the attempt as 32 hexadecimal digits: no two attempts,
//! subtasks or files of one subtask share a name. A local file that is in progress is hidden beside its final place as
//! `.part-….json.<job>.inprogress`, so that the next attempt of the same job can find and remove it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::JobIdentity;

/// The name under which readers find a published file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum FinalName {
    /// A local path.
    Path(String),
    /// A key of an object store.
    Key(String),
}

/// Numbers files within this process: two sinks may write into one folder.
static FILE_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Returns a new file name. `extension` starts without a dot: `json`, `csv.gz`.
pub(super) fn name(job: &JobIdentity, subtask: usize, extension: &str) -> String {
    let number = FILE_NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("part-{}-{subtask}-{number}.{extension}", job.attempt)
}

/// Returns the suffix of the names of this job's files in progress.
pub(super) fn in_progress_suffix(job: &JobIdentity) -> String {
    format!(".{:016x}.inprogress", xxhash_rust::xxh3::xxh3_64(job.job.as_bytes()))
}

/// Returns the prefix of the names of this attempt's files in progress.
pub(super) fn in_progress_prefix(job: &JobIdentity) -> String {
    format!(".part-{}-", job.attempt)
}

/// Returns the name of a file that is written and removed again to check access to a folder.
pub(super) fn probe_name(job: &JobIdentity) -> String {
    format!("{}probe", in_progress_prefix(job))
}

/// Returns true if a name is that of a file in progress with this suffix, of any attempt.
pub(super) fn is_in_progress(name: &str, suffix: &str) -> bool {
    name.starts_with(".part-") && name.ends_with(suffix)
}

/// Returns true if the last segment of a path is the name of a published file.
pub(super) fn is_published(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = || {
        let (numbers, _format) = name.strip_prefix("part-")?.split_once('.')?;
        let (attempt, numbers) = numbers.split_once('-')?;
        let (subtask, number) = numbers.split_once('-')?;
        let is_attempt = attempt.len() == 32 && attempt.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(is_attempt && is_number(subtask) && is_number(number))
    };
    parts().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_published_files_are_recognised() {
        let attempt = "0123456789abcdef0123456789abcdef";
        assert!(is_published(&format!("out/day=1/part-{attempt}-0-12.csv.gz")));
        for other in [
            "out/part-0.csv".to_string(),
            "out/part-00000-of-00002.parquet".to_string(),
            format!("out/part-{attempt}-0.csv"),
            format!("out/part-{attempt}-x-1.csv"),
            format!("out/apart-{attempt}-0-1.csv"),
            format!("part-{attempt}-0-1.csv/data.csv"),
            format!("out/part-{}-0-1.csv", &attempt[1..]),
        ] {
            assert!(!is_published(&other), "{other}");
        }
    }

    #[test]
    fn a_name_is_published_or_in_progress() {
        let job = JobIdentity {
            job: "orders".into(),
            attempt: "0123456789abcdef0123456789abcdef".into(),
        };
        let suffix = in_progress_suffix(&job);
        let published = name(&job, 3, "csv.gz");
        assert!(is_published(&published));
        assert!(!is_in_progress(&published, &suffix));
        let hidden = format!(".{published}{suffix}");
        assert!(!is_published(&hidden));
        assert!(is_in_progress(&hidden, &suffix));
        assert!(hidden.starts_with(&in_progress_prefix(&job)));
    }
}
