//! `${NAME}` and `${NAME:-default}` in option values.

use std::collections::BTreeMap;

use millstream_proto::spec::secret_reference;

/// Replaces references by values of the environment. `$${` stands for a literal `${`. References
/// to secrets are kept.
pub(crate) fn substitute(value: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut result = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        if let Some(escaped) = before.strip_suffix('$') {
            let is_secret = rest[at..].starts_with(secret_reference::START);
            result.push_str(escaped);
            result.push_str(if is_secret { "$${" } else { "${" });
            rest = &rest[at + 2..];
            continue;
        }
        result.push_str(before);
        if let Some(name) = secret_reference::leading(&rest[at..])? {
            let end = at + secret_reference::length(name);
            result.push_str(&rest[at..end]);
            rest = &rest[end..];
            continue;
        }
        let inside = &rest[at + 2..];
        let end = inside
            .find('}')
            .ok_or_else(|| "`${` without `}`; write `$${` for the characters themselves".to_owned())?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        if default.is_some_and(|default| default.contains(secret_reference::START)) {
            return Err(format!(
                "the default of `{name}` cannot be a secret; write a reference to the secret only"
            ));
        }
        let found = environment
            .get(name)
            .filter(|value| !value.is_empty() || default.is_none());
        match (found, default) {
            (Some(value), _) => result.push_str(&secret_reference::escape(value)),
            (None, Some(default)) => result.push_str(default),
            (None, None) => {
                let hint = millstream_proto::spec::did_you_mean(name, environment.keys().map(String::as_str));
                return Err(format!(
                    "the environment variable `{name}` is not set{hint}; set it, or write `${{{name}:-default}}`"
                ));
            }
        }
        rest = &inside[end + 1..];
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Result<&str, &str>) {
        let environment = BTreeMap::from([
            ("HOST".to_owned(), "broker".to_owned()),
            ("EMPTY".to_owned(), String::new()),
            ("LIKE_SECRET".to_owned(), "${secret:b}".to_owned()),
        ]);
        let found = substitute(value, &environment);
        match expected {
            Ok(expected) => assert_eq!(found.as_deref(), Ok(expected)),
            Err(part) => assert!(found.as_ref().is_err_and(|message| message.contains(part)), "{found:?}"),
        }
    }

    #[test]
    fn variables_are_put_in() {
        check("plain", Ok("plain"));
        check("${HOST}:9092", Ok("broker:9092"));
        check("${PORT:-9092}", Ok("9092"));
        check("${EMPTY:-x}${EMPTY}", Ok("x"));
        check("$${HOST}", Ok("${HOST}"));
        check("${secret:a}:${HOST}", Ok("${secret:a}:broker"));
        check("$${secret:a}${LIKE_SECRET}", Ok("$${secret:a}$${secret:b}"));
        check("${secret:a b}", Err("cannot name a secret"));
        check("${HOST:-${secret:a}}", Err("cannot be a secret"));
        check("${HOSTS}", Err("did you mean `HOST`"));
        check("${HOST", Err("without `}`"));
    }
}
