//! Log of a job: its newest lines, which clients can follow.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use millstream_proto::v1;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Lines that are kept of one job.
pub(super) const LINES_MAX: usize = 500;
/// Longest line; the rest is cut off.
const LINE_CHARS_MAX: usize = 4000;

/// The newest lines of one job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    lines: Arc<Mutex<VecDeque<v1::LogLine>>>,
    /// Number of lines ever written.
    written: watch::Sender<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            lines: Arc::default(),
            written: watch::Sender::new(0),
        }
    }
}

impl Log {
    /// Appends a line. `origin` is the worker, or the coordinator itself.
    pub fn write(&self, at_us: i64, level: &str, origin: &str, message: &str) {
        let message = match message.char_indices().nth(LINE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &message[..end]),
            None => message.to_string(),
        };
        let mut lines = self.lines.lock();
        lines.push_back(v1::LogLine {
            at_us,
            level: level.into(),
            origin: origin.into(),
            message,
        });
        if lines.len() > LINES_MAX {
            lines.pop_front();
        }
        self.written.send_modify(|written| *written += 1);
    }

    /// Returns the newest `tail` lines (0: all), and later ones if `follow` is set. A reader that is too slow misses
    /// lines.
    pub fn read(&self, tail: usize, follow: bool) -> BoxStream<'static, v1::LogLine> {
        let written = self.written.subscribe();
        let (buffered, seen) = after(&self.lines.lock(), *written.borrow(), 0);
        let skip = if tail == 0 {
            0
        } else {
            buffered.len().saturating_sub(tail)
        };
        let buffered = stream::iter(buffered.into_iter().skip(skip));
        if !follow {
            return buffered.boxed();
        }
        let lines = Arc::downgrade(&self.lines);
        let rest = stream::unfold((written, seen), move |(mut written, seen)| {
            let lines = lines.clone();
            async move {
                // The sender is gone once the job is deleted.
                written.wait_for(|written| *written > seen).await.ok()?;
                let now = *written.borrow();
                let (new, now) = after(&lines.upgrade()?.lock(), now, seen);
                Some((stream::iter(new), (written, now)))
            }
        });
        buffered.chain(rest.flatten()).boxed()
    }
}

/// Returns the kept lines after the first `seen` ever written, and the number of lines ever written.
fn after(lines: &VecDeque<v1::LogLine>, written: u64, seen: u64) -> (Vec<v1::LogLine>, u64) {
    let new = written.saturating_sub(seen).min(lines.len() as u64) as usize;
    (lines.iter().skip(lines.len() - new).cloned().collect(), written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_lines_are_kept_and_can_be_followed() {
        let log = Log::default();
        for number in 0..LINES_MAX + 10 {
            log.write(0, "info", "coordinator", &number.to_string());
        }
        let all: Vec<_> = log.read(0, false).collect().await;
        assert_eq!((all.len(), all[0].message.as_str()), (LINES_MAX, "10"));
        let mut following = log.read(2, true);
        log.write(0, "warn", "coordinator", &"é".repeat(9000));
        let first = following.next().await.unwrap();
        assert_eq!(first.message, (LINES_MAX + 8).to_string());
        following.next().await.unwrap();
        let long = following.next().await.unwrap();
        assert_eq!(
            (long.level.as_str(), long.message.chars().count()),
            ("warn", LINE_CHARS_MAX + 1)
        );
        drop(log);
        assert_eq!(following.next().await, None);
    }
}
