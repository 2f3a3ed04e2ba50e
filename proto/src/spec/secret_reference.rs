//! References to secrets (`${secret:NAME}`) in option values. Unlike variables, they are kept: only the process that
//! opens a connector replaces them.
//!
//! `$${secret:` stands for the characters `${secret:`; it is kept, too, until references are replaced.

use std::borrow::Cow;

/// Start of a reference.
pub const START: &str = "${secret:";
/// Longest name: that of a key of a Kubernetes secret.
const NAME_BYTES_MAX: usize = 253;

/// Returns the name of the reference at the start of a text; `None` if there is none. The error describes a malformed
/// reference.
pub fn leading(text: &str) -> Result<Option<&str>, String> {
    let Some(rest) = text.strip_prefix(START) else {
        return Ok(None);
    };
    let end = rest
        .find('}')
        .ok_or_else(|| format!("`{START}` has no `}}`; write `{START}NAME}}`"))?;
    let name = &rest[..end];
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let all_allowed = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if starts_well && all_allowed && name.len() <= NAME_BYTES_MAX {
        return Ok(Some(name));
    }
    Err(format!(
        "`{name}` cannot name a secret; a name consists of letters, digits, `-`, `_` and `.`, starts with a letter, a digit \
         or `_`, and has at most {NAME_BYTES_MAX} characters"
    ))
}

/// Returns the length of the reference to the secret `name`.
pub fn length(name: &str) -> usize {
    START.len() + name.len() + 1
}

/// Returns true if a text has a reference that is not escaped.
pub fn is_in(text: &str) -> bool {
    text.match_indices(START).any(|(at, _)| !text[..at].ends_with('$'))
}

/// Escapes what looks like references in the value of a variable, which is never expanded.
pub fn escape(value: &str) -> Cow<'_, str> {
    match value.contains(START) {
        true => Cow::Owned(value.replace(START, &format!("${START}"))),
        false => Cow::Borrowed(value),
    }
}

/// Replaces all references of a text, and removes the escapes.
pub fn replace<E: From<String>>(text: &str, mut value_of: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let (before, from) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str(START);
            rest = &from[START.len()..];
            continue;
        }
        out.push_str(before);
        let Some(name) = leading(from)? else { break };
        out.push_str(&value_of(name)?);
        rest = &from[length(name)..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let replaced = replace::<String>(text, |name| Ok(format!("<{name}>")));
        match expected {
            Ok(expected) => assert_eq!(replaced.as_deref(), Ok(expected)),
            Err(part) => assert!(
                replaced.as_ref().is_err_and(|error| error.contains(part)),
                "{replaced:?}"
            ),
        }
    }

    #[test]
    fn references_are_replaced_and_escapes_removed() {
        check("plain ${X}", Ok("plain ${X}"));
        check("${secret:a}", Ok("<a>"));
        check("u:${secret:a.b-c_1}@${secret:_d}!", Ok("u:<a.b-c_1>@<_d>!"));
        check("$${secret:a}${secret:b}", Ok("${secret:a}<b>"));
        check("${secret:a", Err("has no `}`"));
        for name in ["", "../a", ".a", "a/b", "-a", "é", &"a".repeat(254)] {
            check(&format!("${{secret:{name}}}"), Err("cannot name a secret"));
        }
    }

    #[test]
    fn escaped_values_are_kept() {
        for value in ["", "x", "${secret:a}", "$${secret:a} ${secret:b}", "$$"] {
            check(&escape(value), Ok(value));
            assert!(!is_in(&escape(value)));
        }
        assert!(is_in("a${secret:b}"));
    }
}
