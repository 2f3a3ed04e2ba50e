//! Places where a test lets the process die or freeze, just there.
//!
//! `MILLSTREAM_FAIL_POINT=after-manifest` kills the process (SIGKILL) the first time it reaches that point,
//! `after-manifest:3` the third time; `stop@after-manifest` freezes it (SIGSTOP) until somebody thaws it. Without the
//! variable a point costs one load of a flag. The points are listed in `CONTRIBUTING.md`.
//!
//! The crate stands below all others of the workspace, so that each of them can have points.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub const VARIABLE: &str = "MILLSTREAM_FAIL_POINT";

struct Armed {
    point: String,
    does: Does,
    /// How often the point may still be reached, this time included.
    left: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Kill,
    Stop,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?)).as_ref()
}

fn parse(text: &str) -> Option<Armed> {
    let (does, rest) = match text.split_once('@') {
        Some(("kill", rest)) => (Does::Kill, rest),
        Some(("stop", rest)) => (Does::Stop, rest),
        Some(_) => return None,
        None => (Does::Kill, text),
    };
    let (point, times) = match rest.rsplit_once(':') {
        Some((point, times)) => (point, times.parse().ok()?),
        None => (rest, 1),
    };
    Some(Armed {
        point: point.to_string(),
        does,
        left: AtomicU64::new(times),
    })
}

impl Armed {
    fn is_due(&self, point: &str) -> bool {
        self.point == point && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Ends or freezes the process here, without a word to anybody, if the environment says so.
pub fn reach(point: &str) {
    let Some(armed) = armed().filter(|armed| armed.is_due(point)) else {
        return;
    };
    let (word, signal) = match armed.does {
        Does::Kill => ("killed", libc::SIGKILL),
        Does::Stop => ("stopped", libc::SIGSTOP),
    };
    eprintln!("{VARIABLE}: {word} at {point}");
    // SAFETY: a signal to this process itself.
    if unsafe { libc::kill(libc::getpid(), signal) } != 0 || armed.does == Does::Kill {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_due_once_the_time_it_says() {
        let due = |text: &str| {
            let armed = parse(text).expect("well formed");
            ["a", "b", "a", "a", "b"].map(|point| armed.is_due(point))
        };
        assert_eq!(due("a"), [true, false, false, false, false]);
        assert_eq!(due("a:2"), [false, false, true, false, false]);
        assert_eq!(due("stop@a:2"), due("kill@a:2"));
        assert_eq!(due("c"), [false; 5]);
        assert_eq!(parse("stop@a").map(|armed| armed.does), Some(Does::Stop));
        assert!(parse("a:x").is_none());
        assert!(parse("sleep@a").is_none());
    }
}
