//! A small tmpfs that a test can fill.
//!
//! The test's thread moves to a mount namespace of its own, so that the mount is invisible elsewhere and disappears
//! with the test. Processes that the thread starts see it, too. Requires root or `CAP_SYS_ADMIN`.

use std::ffi::{CString, c_ulong};
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null;

const CHUNK_BYTES: usize = 64 << 10;

pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Creates a folder and mounts a disk there. Panics if mounting is refused.
    #[track_caller]
    pub fn mount(path: PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&path).expect("a writable folder");
        // SAFETY: the call takes no pointers; it changes what this thread and its children see mounted.
        check("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) });
        mount(None, Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, None);
        mount(Some("tmpfs"), &path, 0, Some(&format!("size={bytes}")));
        Self { path }
    }

    pub fn root(&self) -> &Path {
        &self.path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Fills all free space.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("an entry of a folder needs no space here");
        let chunk = vec![b'.'; CHUNK_BYTES];
        let mut bytes = CHUNK_BYTES;
        while bytes > 0 {
            match file.write(&chunk[..bytes]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => bytes /= 2,
                Err(error) => panic!("{}: {error}", self.filler().display()),
            }
        }
    }

    /// Frees the space.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path("filler")
    }
}

#[track_caller]
fn mount(kind: Option<&str>, target: &Path, flags: c_ulong, options: Option<&str>) {
    let text = |text: &str| CString::new(text).expect("no zero byte");
    let (kind, options) = (kind.map(text), options.map(text));
    let target = CString::new(target.as_os_str().as_bytes()).expect("no zero byte");
    let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
    // SAFETY: all pointers are null or to texts that end with a zero byte and live until the call returns.
    let result = unsafe {
        libc::mount(
            pointer(&kind),
            target.as_ptr(),
            pointer(&kind),
            flags,
            pointer(&options).cast(),
        )
    };
    check("mount", result);
}

#[track_caller]
fn check(call: &str, result: i32) {
    assert_eq!(
        result,
        0,
        "{call}: {}; this test needs a small disk of its own: run it as root, or with CAP_SYS_ADMIN",
        Error::last_os_error()
    );
}
