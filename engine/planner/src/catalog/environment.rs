//! `${NAME}` and `${NAME:-default}` in option values.

use std::collections::BTreeMap;

/// Replaces references by values of the environment. `$${` stands for a literal `${`.
pub(crate) fn substitute(value: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut result = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        if let Some(escaped) = before.strip_suffix('$') {
            result.push_str(escaped);
            result.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        result.push_str(before);
        let inside = &rest[at + 2..];
        let end = inside
            .find('}')
            .ok_or_else(|| "`${` without `}`; write `$${` for the characters themselves".to_owned())?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let found = environment
            .get(name)
            .filter(|value| !value.is_empty() || default.is_none());
        match (found, default) {
            (Some(value), _) => result.push_str(value),
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
        check("${HOSTS}", Err("did you mean `HOST`"));
        check("${HOST", Err("without `}`"));
    }
}
