//! Columns that no record of a source has. A misspelt column is NULL everywhere, which is no error.
//!
//! Sources know which fields their own readers have seen. Workers' heartbeats carry them to the driver, which merges
//! them: a column is absent if it is absent in every process that has read records.

use std::collections::{BTreeMap, BTreeSet};

use millstream_proto::report::{count, listed};
use millstream_proto::spec::closest;
use millstream_proto::v1::InputFields;

/// Records after which an absent column is reported while the job runs.
pub(crate) const WARN_RECORDS_MIN: u64 = 1_000;
/// Largest number of absent columns and of unknown fields named for one source.
const NAMED_MAX: usize = 10;
/// Largest number of unknown fields stored for one source.
const UNKNOWN_FIELDS_MAX: usize = 64;

/// Merges what several processes have read: one for each source, in the order of their ids.
pub(crate) fn merge(found: impl IntoIterator<Item = InputFields>) -> Vec<InputFields> {
    let mut by_operator: BTreeMap<String, InputFields> = BTreeMap::new();
    for fields in found.into_iter().filter(|fields| fields.records > 0) {
        match by_operator.get_mut(&fields.operator) {
            Some(known) => {
                known.records += fields.records;
                known
                    .absent_columns
                    .retain(|column| fields.absent_columns.contains(column));
                let names: BTreeSet<String> = known.unknown_fields.drain(..).chain(fields.unknown_fields).collect();
                known.unknown_fields = names.into_iter().take(UNKNOWN_FIELDS_MAX).collect();
            }
            None => {
                by_operator.insert(fields.operator.clone(), fields);
            }
        }
    }
    by_operator.into_values().collect()
}

/// Returns a warning for each absent column.
pub(crate) fn warnings(fields: &InputFields) -> Vec<String> {
    let mut sentences: Vec<String> = fields
        .absent_columns
        .iter()
        .take(NAMED_MAX)
        .map(|column| {
            format!(
                "source `{}`: column `{column}` was absent from {}{}",
                fields.operator,
                records(fields.records),
                hint(column, &fields.unknown_fields)
            )
        })
        .collect();
    if let Some(more) = fields.absent_columns.len().checked_sub(NAMED_MAX + 1) {
        sentences.push(format!(
            "source `{}`: {} more columns were absent from {}",
            fields.operator,
            more + 1,
            records(fields.records)
        ));
    }
    sentences
}

/// Returns true if an absent column is probably a misspelling of a field that records have.
pub(crate) fn is_probably_misspelt(fields: &InputFields) -> bool {
    fields
        .absent_columns
        .iter()
        .any(|column| closest(column, fields.unknown_fields.iter().map(String::as_str)).is_some())
}

fn records(records: u64) -> String {
    match records {
        1 => "the only record".to_string(),
        records => format!("all {} records", count(records)),
    }
}

fn hint(column: &str, unknown: &[String]) -> String {
    let same = unknown.iter().find(|name| name.to_lowercase() == column.to_lowercase());
    if let Some(name) = same {
        return format!("; they have the field `{name}` (names are case-sensitive)");
    }
    if let Some(name) = closest(column, unknown.iter().map(String::as_str)) {
        return format!("; did you mean their field `{name}`?");
    }
    match unknown.is_empty() {
        true => "; they have no field that the table does not declare".to_string(),
        false => {
            let shown = listed(unknown.iter().map(|name| format!("`{name}`")), NAMED_MAX);
            format!("; their fields without a column are {shown}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(records: u64, absent: &[&str], unknown: &[&str]) -> InputFields {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        InputFields {
            operator: "clicks".into(),
            records,
            absent_columns: names(absent),
            unknown_fields: names(unknown),
        }
    }

    #[test]
    fn a_column_is_absent_if_it_is_absent_wherever_records_were_read() {
        let found = merge([
            fields(20, &["a", "b"], &["x"]),
            fields(0, &[], &[]),
            fields(10, &["b"], &["y"]),
        ]);
        assert_eq!(found, [fields(30, &["b"], &["x", "y"])]);
    }

    #[test]
    fn an_absent_column_is_reported_with_the_similar_field() {
        #[track_caller]
        fn check(unknown: &[&str], expected: &str) {
            assert_eq!(warnings(&fields(30_000, &["userid"], unknown)), [expected]);
        }
        check(
            &["other", "userId"],
            "source `clicks`: column `userid` was absent from all 30,000 records; they have the field `userId` (names are \
             case-sensitive)",
        );
        check(
            &["other", "user_id"],
            "source `clicks`: column `userid` was absent from all 30,000 records; did you mean their field `user_id`?",
        );
        check(
            &["other"],
            "source `clicks`: column `userid` was absent from all 30,000 records; their fields without a column are \
             `other`",
        );
        check(
            &[],
            "source `clicks`: column `userid` was absent from all 30,000 records; they have no field that the table does \
             not declare",
        );
        let many: Vec<String> = (0..13).map(|column| format!("c{column}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let sentences = warnings(&fields(1, &many, &[]));
        assert_eq!(sentences.len(), 11);
        assert_eq!(
            sentences[10],
            "source `clicks`: 3 more columns were absent from the only record"
        );
    }
}
