//! Places where a test lets the process die, as if it were killed just there.
//!
//! `MILLSTREAM_FAIL_POINT=after-manifest` ends the process the first time it reaches that point,
//! `after-manifest:3` the third time. Without the variable a point costs one load of a flag. The names are listed in
//! `CONTRIBUTING.md`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    point: String,
    /// How often the point may still be reached, this time included.
    left: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| parse(&std::env::var("MILLSTREAM_FAIL_POINT").ok()?))
        .as_ref()
}

fn parse(text: &str) -> Option<Armed> {
    let (point, times) = match text.rsplit_once(':') {
        Some((point, times)) => (point, times.parse().ok()?),
        None => (text, 1),
    };
    Some(Armed {
        point: point.to_string(),
        left: AtomicU64::new(times),
    })
}

impl Armed {
    fn is_due(&self, point: &str) -> bool {
        self.point == point && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Ends the process here, without a word to anybody, if the environment says so.
pub fn reach(point: &str) {
    if armed().is_some_and(|armed| armed.is_due(point)) {
        eprintln!("MILLSTREAM_FAIL_POINT: aborting at {point}");
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
        assert_eq!(due("c"), [false; 5]);
        assert!(parse("a:x").is_none());
    }
}
