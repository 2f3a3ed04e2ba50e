//! Running a command and accounting for it as the operating system does.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// What a finished process cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub status: ExitStatus,
    pub wall: Duration,
    /// User and system time of the process, all threads.
    pub cpu: Duration,
    pub peak_rss_bytes: u64,
}

/// Runs to the end.
pub fn run(command: &mut Command) -> io::Result<Cost> {
    let start = Instant::now();
    let child = command.spawn()?;
    wait(child, start)
}

/// Waits for a child started at `start` and collects its cost.
pub fn wait(child: Child, start: Instant) -> io::Result<Cost> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: rusage is plain old data, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; the child is ours and nobody else waits for it.
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    if waited != pid {
        return Err(io::Error::last_os_error());
    }
    let time = |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
    Ok(Cost {
        status: ExitStatus::from_raw(status),
        wall: start.elapsed(),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_rss_bytes: usage.ru_maxrss as u64 * 1024,
    })
}
