//! References to environment variables (`${NAME}`) in option values. The server expands them with the environment of
//! the client, which sends the [`variables`] of a text along with it.
//!
//! `${NAME}` must be set; `${NAME:-default}` need not be set (an empty variable counts as unset); `$${` is a literal
//! `${`. Replaced values are not expanded again. References to secrets ([`secret_reference`]) are kept.

use std::collections::BTreeMap;

use super::mode::replace_parameters;
use super::secret_reference;
use crate::JobSpec;
use crate::spec::{Error, Positions};

/// Replaces the references in all option values and in the checkpoint storage, and those to parameters in the SQL of
/// steps and watermarks, too. `parameters` are those of the mode ([`apply_mode`](super::apply_mode)).
pub fn expand(
    spec: &mut JobSpec,
    positions: &Positions,
    parameters: &BTreeMap<String, String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Vec<Error>> {
    let mut errors = Vec::new();
    let mut set = |path: String, value: &mut String, replaced: Result<String, String>| match replaced {
        Ok(replaced) => *value = replaced,
        Err(message) => errors.push(Error {
            at: positions.find(&path).map(|position| (position.line, position.column)),
            path,
            message,
        }),
    };
    for step in &mut spec.steps {
        let replaced = replace_parameters(&step.sql, parameters);
        set(format!("steps.{}.sql", step.name), &mut step.sql, replaced);
    }
    for source in &mut spec.sources {
        let expression = source.event_time.as_mut().and_then(|time| time.expression.as_mut());
        if let Some(expression) = expression {
            let replaced = replace_parameters(expression, parameters);
            set(
                format!("sources.{}.event_time.expression", source.name),
                expression,
                replaced,
            );
        }
    }
    let storage = spec
        .checkpoints
        .as_mut()
        .and_then(|checkpoints| checkpoints.storage.as_mut());
    if let Some(storage) = storage.filter(|storage| secret_reference::is_in(storage)) {
        let message =
            "it cannot refer to a secret; the processes' environment has the credentials of checkpoint storage";
        set("checkpoints.storage".to_string(), storage, Err(message.to_string()));
    }
    let mut replace = |path: String, value: &mut String| {
        let replaced = replace_parameters(value, parameters).and_then(|text| expand_text(&text, lookup));
        set(path, value, replaced);
    };
    if let Some(storage) = spec
        .checkpoints
        .as_mut()
        .and_then(|checkpoints| checkpoints.storage.as_mut())
    {
        replace("checkpoints.storage".to_string(), storage);
    }
    for source in &mut spec.sources {
        for property in &mut source.options {
            replace(
                format!("sources.{}.options.{}", source.name, property.key),
                &mut property.value,
            );
        }
    }
    for sink in &mut spec.sinks {
        for property in &mut sink.options {
            replace(
                format!("sinks.{}.options.{}", sink.name, property.key),
                &mut property.value,
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Replaces the references in one text. The error describes the mistake and the remedy.
pub fn expand_text(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            let is_secret = rest[at..].starts_with(secret_reference::START);
            out.push_str(&rest[..at - 1]);
            out.push_str(if is_secret { "$${" } else { "${" });
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        if let Some(name) = secret_reference::leading(&rest[at..])? {
            let end = at + secret_reference::length(name);
            out.push_str(&rest[at..end]);
            rest = &rest[end..];
            continue;
        }
        let inner = &rest[at + 2..];
        let end = inner
            .find('}')
            .ok_or_else(|| "`${` has no `}`; write `${NAME}`, or `$${` for a literal `${`".to_string())?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !named {
            return Err(format!(
                "`{name}` cannot name an environment variable; write `${{NAME}}` or `${{NAME:-default}}`, or `$${{` for a literal `${{`"
            ));
        }
        if default.is_some_and(|default| default.contains(secret_reference::START)) {
            return Err(format!(
                "the default of {name} cannot be a secret; write a reference to the secret only"
            ));
        }
        let value = match default {
            Some(default) => lookup(name)
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| default.to_string()),
            None => lookup(name).ok_or_else(|| {
                format!("the environment variable {name} is not set; set it, or write `${{{name}:-default}}`")
            })?,
        };
        out.push_str(&secret_reference::escape(&value));
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Returns the names of all variables that a text refers to. The text need not be valid.
pub fn variables(text: &str) -> std::collections::BTreeSet<String> {
    let mut names = std::collections::BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        rest = &rest[at + 2..];
        if escaped {
            continue;
        }
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let closed = rest[end..].starts_with('}') || rest[end..].starts_with(":-");
        if closed && end > 0 && !rest.starts_with(|c: char| c.is_ascii_digit()) {
            names.insert(rest[..end].to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::variables;

    #[test]
    fn variables_are_those_that_would_be_replaced() {
        let found = variables("a ${ONE} ${TWO:-${THREE}} $${FOUR} ${FIVE ${} ${6} $SEVEN ${ONE}");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["ONE", "THREE", "TWO"]);
    }
}
