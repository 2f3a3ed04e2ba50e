//! A hint how to skip records that do not decode, for the error of a source whose policy is to fail.

use millstream_connectors::{TableDefinition, format};

/// Returns the hint for both languages, because the graph does not know in which one the table was declared: `on_error`
/// in YAML, an option of the table's format in SQL, if the format has one.
pub(super) fn skip_hint(table: &TableDefinition) -> String {
    let yaml = "To go on past such records set `on_error: skip` or `on_error: dead_letter` of the source in YAML";
    let format = table.option("format").or(table.option("value.format"));
    match format.and_then(skip_option) {
        Some(option) => format!("{yaml}, or the option '{option}' = 'true' of the table in SQL"),
        None => format!("{yaml}; in SQL a table of this format has no such option"),
    }
}

/// Returns the option of a format that skips records it cannot decode.
fn skip_option(format: &str) -> Option<&'static str> {
    let mut options = format::find(format)?.options.iter().map(|option| option.name);
    options.find(|option| option.ends_with(".ignore-parse-errors"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use millstream_connectors::{Role, registry};

    use super::*;

    fn table(options: &[(&str, &str)]) -> TableDefinition {
        let options = options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        TableDefinition {
            name: "entries".into(),
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)])),
            metadata: Vec::new(),
            options: options.collect::<BTreeMap<_, _>>(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        }
    }

    /// The option that is named is one that the table takes.
    #[test]
    fn the_option_for_sql_is_accepted_by_the_table() {
        for format in ["json", "csv"] {
            let given = [("connector", "filesystem"), ("path", "/tmp/in"), ("format", format)];
            let hint = skip_hint(&table(&given));
            let (_, rest) = hint.split_once("the option '").expect("an option is named");
            let (option, rest) = rest.split_once("' = '").expect("and its value");
            let value = rest.split('\'').next().expect("in quotes");
            let with_option = table(&[&given[..], &[(option, value)]].concat());
            assert_eq!(registry::validate(&with_option, Role::Source), Vec::new(), "{hint}");
        }
        let raw = skip_hint(&table(&[("connector", "filesystem"), ("format", "raw")]));
        assert!(
            raw.ends_with("in SQL a table of this format has no such option"),
            "{raw}"
        );
    }
}
