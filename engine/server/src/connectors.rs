//! `engine connectors`: lists connectors and formats with their options.

use millstream_connectors::{OptionDescription, OptionKind, Role, format, registry};

/// Returns the list of all connectors and formats, or the entry of one. The error names the known ones.
pub fn list(name: Option<&str>) -> Result<String, String> {
    let mut out = String::new();
    for connector in registry::connectors() {
        if name.is_some_and(|name| name != connector.name()) {
            continue;
        }
        let roles: Vec<_> = connector
            .roles()
            .iter()
            .map(|role| match role {
                Role::Source => "source",
                Role::Sink => "sink",
            })
            .collect();
        out.push_str(&format!(
            "{} ({})\n    {}\n",
            connector.name(),
            roles.join(", "),
            connector.help()
        ));
        let mut seen = Vec::new();
        for role in connector.roles() {
            for option in connector.options(*role) {
                if !seen.contains(&option.name) {
                    seen.push(option.name);
                    option_line(option, &mut out);
                }
            }
        }
        let metadata: Vec<_> = connector.metadata().iter().map(|metadata| metadata.key).collect();
        if !metadata.is_empty() {
            out.push_str(&format!("    metadata: {}\n", metadata.join(", ")));
        }
        out.push('\n');
    }
    for format in format::formats() {
        if name.is_some_and(|name| name != format.name) {
            continue;
        }
        out.push_str(&format!("{} (format)\n", format.name));
        for option in format.options {
            option_line(option, &mut out);
        }
        out.push('\n');
    }
    if out.is_empty() {
        let connectors = registry::connectors().iter().map(|connector| connector.name());
        let known: Vec<_> = connectors
            .chain(format::formats().iter().map(|format| format.name))
            .collect();
        return Err(format!(
            "there is no connector or format `{}`; known ones: {}",
            name.unwrap_or_default(),
            known.join(", ")
        ));
    }
    Ok(out)
}

fn option_line(option: &OptionDescription, out: &mut String) {
    let kind = match option.kind {
        OptionKind::Text => "text".to_string(),
        OptionKind::Integer => "integer".to_string(),
        OptionKind::Float => "number".to_string(),
        OptionKind::Boolean => "true | false".to_string(),
        OptionKind::Duration => "duration".to_string(),
        OptionKind::Bytes => "bytes".to_string(),
        OptionKind::OneOf(words) => words.join(" | "),
    };
    let default = match (option.required, option.default) {
        (true, _) => ", required".to_string(),
        (false, Some(default)) => format!(", default {default}"),
        (false, None) => String::new(),
    };
    out.push_str(&format!(
        "    {:<36} {kind}{default}\n        {}\n",
        option.name, option.help
    ));
}
