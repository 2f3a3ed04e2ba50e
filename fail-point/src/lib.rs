//! Fail points: named places in the code where a test can kill or freeze the process.
//!
//! `MILLSTREAM_FAIL_POINT=after-manifest` kills the process (SIGKILL) the first time it reaches that point,
//! `after-manifest:3` the third time; `stop@after-manifest` freezes it (SIGSTOP) until SIGCONT. Without the variable a
//! fail point costs one atomic load. The fail points are listed in `CONTRIBUTING.md`.
//!
//! This crate depends on no other crate of the workspace, so that each of them can have fail points.
#![warn(missing_docs, unreachable_pub)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable that arms a fail point.
pub const VARIABLE: &str = "MILLSTREAM_FAIL_POINT";

/// The fail point that the environment has armed.
struct FailPoint {
    name: String,
    action: Action,
    /// The action is taken when the point has been reached this many times more.
    countdown: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
}

fn armed() -> Option<&'static FailPoint> {
    static ARMED: OnceLock<Option<FailPoint>> = OnceLock::new();
    ARMED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?)).as_ref()
}

fn parse(text: &str) -> Option<FailPoint> {
    let (action, rest) = match text.split_once('@') {
        Some(("kill", rest)) => (Action::Kill, rest),
        Some(("stop", rest)) => (Action::Stop, rest),
        Some(_) => return None,
        None => (Action::Kill, text),
    };
    let (name, times) = match rest.rsplit_once(':') {
        Some((name, times)) => (name, times.parse().ok()?),
        None => (rest, 1),
    };
    Some(FailPoint {
        name: name.to_string(),
        action,
        countdown: AtomicU64::new(times),
    })
}

impl FailPoint {
    /// Counts an arrival at `name`. Returns true if the action is to be taken now.
    fn is_due(&self, name: &str) -> bool {
        self.name == name && self.countdown.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Kills or freezes the process at once if the environment has armed this fail point.
pub fn reach(point: &str) {
    let Some(armed) = armed().filter(|armed| armed.is_due(point)) else {
        return;
    };
    let (word, signal) = match armed.action {
        Action::Kill => ("killed", libc::SIGKILL),
        Action::Stop => ("stopped", libc::SIGSTOP),
    };
    eprintln!("{VARIABLE}: {word} at {point}");
    // SAFETY: a signal to this process itself.
    if unsafe { libc::kill(libc::getpid(), signal) } != 0 || armed.action == Action::Kill {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fail_point_acts_once_at_the_given_arrival() {
        let due = |text: &str| {
            let armed = parse(text).expect("well formed");
            ["a", "b", "a", "a", "b"].map(|point| armed.is_due(point))
        };
        assert_eq!(due("a"), [true, false, false, false, false]);
        assert_eq!(due("a:2"), [false, false, true, false, false]);
        assert_eq!(due("stop@a:2"), due("kill@a:2"));
        assert_eq!(due("c"), [false; 5]);
        assert_eq!(parse("stop@a").map(|armed| armed.action), Some(Action::Stop));
        assert!(parse("a:x").is_none());
        assert!(parse("sleep@a").is_none());
    }
}
