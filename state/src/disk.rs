//! Full disks: recognition and description.

use std::ffi::CString;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns true for errors of a full disk or an exhausted quota, which end once space is freed.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Returns true as [`is_full`] does, for errors of RocksDB. They have the system's message but not its error number.
pub(crate) fn is_full_for_database(error: &rocksdb::Error) -> bool {
    const TEXTS: [&str; 3] = ["No space left on device", "Disk quota exceeded", "Space limit reached"];
    let text = error.as_ref();
    error.kind() == rocksdb::ErrorKind::IOError && TEXTS.iter().any(|full| text.contains(full))
}

/// Describes the full disk that holds `path`: `no space left on /data, 0 MB free`.
pub(crate) fn describe_full(path: &Path) -> String {
    let mount = mount_point(path);
    match space(&mount) {
        Some(space) => {
            let files = if space.files_free == 0 { ", 0 files free" } else { "" };
            format!(
                "no space left on {}, {} MB free{files}",
                mount.display(),
                space.bytes_free >> 20
            )
        }
        None => format!("no space left on {}", mount.display()),
    }
}

struct Space {
    /// Free bytes for users without privileges.
    bytes_free: u64,
    files_free: u64,
}

fn space(path: &Path) -> Option<Space> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with a zero byte, and `stat` has room for the answer.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled `stat`.
    let stat = unsafe { stat.assume_init() };
    Some(Space {
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        // A file system without a limit on files reports a total of 0.
        files_free: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
    })
}

/// Returns the topmost folder above `path` (which need not exist) on the same file system.
fn mount_point(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let mut existing = absolute.ancestors().skip_while(|folder| device(folder).is_none());
    let Some(mut top) = existing.next() else {
        return absolute;
    };
    let own = device(top);
    for folder in existing {
        if device(folder) != own {
            break;
        }
        top = folder;
    }
    top.to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_yet_is_on_the_file_system_of_its_nearest_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mount = mount_point(folder.path());
        assert!(folder.path().starts_with(&mount), "{}", mount.display());
        assert_eq!(mount_point(&folder.path().join("a/b/c")), mount);
        let said = describe_full(&folder.path().join("a"));
        let expected = format!("no space left on {}, ", mount.display());
        assert!(said.starts_with(&expected) && said.contains(" MB free"), "{said}");
    }

    #[test]
    fn a_full_disk_and_an_exhausted_quota_are_told_from_other_errors() {
        for (number, expected) in [(libc::ENOSPC, true), (libc::EDQUOT, true), (libc::EIO, false)] {
            let error = std::io::Error::from_raw_os_error(number);
            assert_eq!(is_full(&error), expected, "{error}");
        }
    }
}
