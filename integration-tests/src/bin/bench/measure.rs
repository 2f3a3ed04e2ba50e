//! Runs a command and measures its resources as the operating system counts them.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result};

/// Resources used by a finished process.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub status: ExitStatus,
    pub wall: Duration,
    /// User and system time of the process, all threads.
    pub cpu: Duration,
    pub peak_rss_bytes: u64,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> io::Result<Cost> {
    let start = Instant::now();
    let child = command.spawn()?;
    wait(child, start)
}

/// Waits for a child started at `start` and collects its cost.
pub fn wait(child: Child, start: Instant) -> io::Result<Cost> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: rusage is plain data, for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live local variables; no one else waits for the child.
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

pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(status(pid, "VmRSS:")? * 1024)
}

pub fn threads(pid: u32) -> Result<u64> {
    status(pid, "Threads:")
}

fn status(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.with_context(|| format!("{name} in /proc"))?.parse()?)
}

/// User and system time of a process so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .context("fields in /proc")?
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
