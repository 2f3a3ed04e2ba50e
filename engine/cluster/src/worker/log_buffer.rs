//! Log lines about jobs on this worker, buffered until a heartbeat carries them to the coordinator.
//!
//! The process's logger writes lines about jobs here. While there is no coordinator, the newest lines are retained.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_proto::v1;
use parking_lot::Mutex;

use super::clock_us;

/// Lines in the buffer; the oldest are dropped beyond that.
const LINES_MAX: usize = 1_000;
/// Lines in one heartbeat.
const LINES_PER_HEARTBEAT_MAX: usize = 200;
/// Longest line that is stored; the rest is cut off.
const LINE_CHARS_MAX: usize = 4_000;

/// A buffer of lines about jobs, oldest first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LogBuffer {
    inner: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<v1::JobLine>,
    /// Number of lines dropped since the last heartbeat, of all jobs together.
    lost: u64,
}

impl LogBuffer {
    /// Appends a line about a job.
    pub fn write(&self, job: &str, level: &str, message: &str) {
        let message = match message.char_indices().nth(LINE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &message[..end]),
            None => message.to_string(),
        };
        let line = v1::JobLine {
            job: job.to_string(),
            at_us: clock_us(),
            level: level.to_string(),
            message,
        };
        let mut inner = self.inner.lock();
        if inner.lines.len() == LINES_MAX {
            inner.lines.pop_front();
            inner.lost += 1;
        }
        inner.lines.push_back(line);
    }

    /// Removes and returns the oldest lines, for one heartbeat.
    pub(super) fn take(&self) -> Vec<v1::JobLine> {
        let mut inner = self.inner.lock();
        let count = inner.lines.len().min(LINES_PER_HEARTBEAT_MAX);
        let mut lines: Vec<v1::JobLine> = inner.lines.drain(..count).collect();
        let lost = std::mem::take(&mut inner.lost);
        if let (Some(first), true) = (lines.first_mut(), lost > 0) {
            first.message = format!("({lost} earlier lines of this worker were dropped) {}", first.message);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_the_loss_of_older_ones_is_said() {
        let log_buffer = LogBuffer::default();
        assert!(log_buffer.take().is_empty());
        for number in 0..LINES_MAX + 3 {
            log_buffer.write("job", "warn", &number.to_string());
        }
        let first = log_buffer.take();
        assert_eq!(first.len(), LINES_PER_HEARTBEAT_MAX);
        assert_eq!(first[0].message, "(3 earlier lines of this worker were dropped) 3");
        assert_eq!(first[1].message, "4");
        let mut last = first;
        loop {
            match log_buffer.take() {
                lines if lines.is_empty() => break,
                lines => last = lines,
            }
        }
        assert_eq!(last.last().map(|line| line.message.as_str()), Some("1002"));
    }
}
