//! JSON values in the block style of YAML, for display.

use serde_json::Value;

/// Formats a JSON value as YAML. Text that YAML could read as another value is quoted as in JSON.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (position, (key, value)) in map.iter().enumerate() {
                // The first key of a list's item follows its dash.
                if position > 0 || out.is_empty() || out.ends_with('\n') {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str(&text(key));
                out.push(':');
                nested(value, indent, out);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for (position, value) in values.iter().enumerate() {
                if position > 0 || out.is_empty() || out.ends_with('\n') {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str("- ");
                block(value, indent + 2, out);
            }
        }
        scalar => {
            out.push_str(&match scalar {
                Value::String(value) => text(value),
                other => other.to_string(),
            });
            out.push('\n');
        }
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    let empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::String(value) if value.contains('\n') => return literal(value, indent + 2, out),
        _ => true,
    };
    if empty {
        out.push(' ');
        block(value, 0, out);
    } else {
        out.push('\n');
        block(value, indent + 2, out);
    }
}

/// Text of several lines as a literal block, where that says exactly the text.
fn literal(value: &str, indent: usize, out: &mut String) {
    let body = value.strip_suffix('\n').unwrap_or(value);
    let exact = !body.starts_with([' ', '\n'])
        && !body.ends_with('\n')
        && !body.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{feff}'));
    if !exact {
        out.push_str(&format!(" {}\n", Value::from(value)));
        return;
    }
    out.push_str(if value.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in body.split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn text(value: &str) -> String {
    let plain = value.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'))
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !matches!(
            value.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        value.to_string()
    } else {
        Value::from(value).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_in_blocks() {
        let value = json!({
            "name": "toll-booth", "rows": 1, "text": "1", "yes": "yes", "none": [], "no": null, "a b": "x: y",
            "list": [{ "a": 1, "b": { "c": [1, 2] } }, "x", [3]],
            "plan": "first\n  second\n"
        });
        let expected = "name: toll-booth\nrows: 1\ntext: \"1\"\n\"yes\": \"yes\"\nnone: []\n\"no\": null\n\"a b\": \"x: y\"\n\
            list:\n  - a: 1\n    b:\n      c:\n        - 1\n        - 2\n  - x\n  - - 3\nplan: |\n  first\n    second\n";
        assert_eq!(to_yaml(&value), expected);
    }
}
