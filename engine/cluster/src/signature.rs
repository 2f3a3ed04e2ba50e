//! Signatures of state ([`crate::compatibility::state_signature`]) in words.
//!
//! A signature is compared as a whole and stands in checkpoints, so its spelling cannot change. What a person wants to know
//! is picked out of it here. One of which the form is not known, as an older or newer engine may have written it, stays as
//! it is.

use millstream_proto::spec::format_duration_ms;

/// What kind of state it is, such as `window of 1min by Int64: count, sum`.
pub fn in_words(signature: &str) -> String {
    let words = match signature.split_once(' ') {
        Some(("aggregate", rest)) => aggregate(rest),
        Some(("join", rest)) => join(rest),
        Some(("top", rest)) => top(rest),
        _ => None,
    };
    words.unwrap_or_else(|| signature.to_string())
}

/// Two signatures in words that tell them apart.
pub fn both_in_words(before: &str, now: &str) -> (String, String) {
    let words = (in_words(before), in_words(now));
    match words.0 == words.1 {
        true => (before.to_string(), now.to_string()),
        false => words,
    }
}

/// `Tumble { size: 60000000, offset: 0 } Single keys [Int64] calls [count: Int64, sum: Decimal128(20, 2)]`
fn aggregate(rest: &str) -> Option<String> {
    let (window, rest) = rest.split_once(" keys [")?;
    let (keys, calls) = rest.split_once("] calls [")?;
    let (window, phase) = window.rsplit_once(' ')?;
    let window = window_in_words(window)?;
    let by = match keys {
        "" => String::new(),
        keys => format!(" by {keys}"),
    };
    let partial = match phase {
        "Local" => ", partial",
        _ => "",
    };
    Some(format!(
        "{window}{by}: {}{partial}",
        calls_in_words(calls.strip_suffix(']')?)
    ))
}

fn window_in_words(window: &str) -> Option<String> {
    let length = |name: &str| {
        let digits = window.split_once(&format!("{name}: "))?.1;
        let digits = digits.split([',', ' ']).next()?;
        let us: u64 = digits.parse().ok()?;
        Some(format_duration_ms(us / 1000))
    };
    Some(match window.split([' ', '(']).next()? {
        "Tumble" => format!("window of {}", length("size")?),
        "Hop" => format!("window of {} every {}", length("size")?, length("slide")?),
        "Cumulate" => format!("window that grows by {} up to {}", length("step")?, length("size")?),
        "Session" => format!("session with a gap of {}", length("gap")?),
        "Attached" => "window that rows bring along".to_string(),
        _ => return None,
    })
}

/// The functions; types may have commas in them, names have not.
fn calls_in_words(calls: &str) -> String {
    let is_name = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_ ".contains(c))
    };
    let names = calls
        .split(", ")
        .filter_map(|call| Some(call.split_once(": ")?.0).filter(|name| is_name(name)));
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => "distinct keys".to_string(),
        names => names.join(", "),
    }
}

/// `on [(0, 0)] left [Int64, Utf8] right [Int64]`
fn join(rest: &str) -> Option<String> {
    let (_, sides) = rest.split_once(" left [")?;
    let (left, right) = sides.split_once("] right [")?;
    Some(format!("window join of ({left}) and ({})", right.strip_suffix(']')?))
}

/// `1..=3 by [0] of [Int64, Utf8]`
fn top(rest: &str) -> Option<String> {
    let (ranks, rest) = rest.split_once(" by [")?;
    let (_, columns) = rest.split_once("] of [")?;
    let (from, to) = ranks.split_once("..=")?;
    let ranks = match from {
        "1" => format!("first {to}"),
        from => format!("ranks {from} to {to}"),
    };
    Some(format!("{ranks} of ({})", columns.strip_suffix(']')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_read_as_a_person_would_say_it() {
        #[track_caller]
        fn check(signature: &str, expected: &str) {
            assert_eq!(in_words(signature), expected);
        }
        check(
            "aggregate Tumble { size: 60000000, offset: 0 } Single keys [Int64, Utf8] calls [count: Int64, distinct sum: Decimal128(20, 2) Int64]",
            "window of 1min by Int64, Utf8: count, distinct sum",
        );
        check(
            "aggregate Hop { size: 60000000, slide: 1500000, offset: 0 } Local keys [] calls [max: Int64]",
            "window of 1min every 1500ms: max, partial",
        );
        check(
            "aggregate Cumulate { size: 3600000000, step: 60000000, offset: 0 } Final keys [Utf8] calls []",
            "window that grows by 1min up to 1h by Utf8: distinct keys",
        );
        check(
            "aggregate Session { gap: 30000000 } Single keys [Utf8] calls [avg: UInt64 Float64]",
            "session with a gap of 30s by Utf8: avg",
        );
        check(
            "aggregate Attached(WindowColumns { start: 3, end: 4 }) Final keys [Utf8] calls [count: Int64]",
            "window that rows bring along by Utf8: count",
        );
        check(
            "join on [(0, 0)] left [Int64, Utf8] right [Int64]",
            "window join of (Int64, Utf8) and (Int64)",
        );
        check("top 1..=3 by [0] of [Int64, Utf8]", "first 3 of (Int64, Utf8)");
        check("top 2..=3 by [0] of [Int64]", "ranks 2 to 3 of (Int64)");
        check("", "");
        check("something newer", "something newer");
        check("aggregate something newer", "aggregate something newer");
    }

    #[test]
    fn what_words_do_not_tell_apart_is_told_in_full() {
        let (count, sum) = ("top 1..=3 by [0] of [Int64]", "top 1..=3 by [1] of [Int64]");
        assert_eq!(both_in_words(count, sum), (count.to_string(), sum.to_string()));
    }
}
