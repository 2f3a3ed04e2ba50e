//! Changelogs that a case prints, and the tables that they make.

use std::collections::BTreeMap;

/// Mark of a case whose result is a changelog, before the number of leading columns that identify a row.
const KEY_COLUMNS: &str = "-- key columns: ";

/// Mark of a case with consistency points, before the number (from 1 on) of a column that is zero in every change.
const ZERO_COLUMN: &str = "-- zero column: ";

/// The printed changelog of a case.
pub(crate) struct Changelog {
    key_columns: usize,
}

impl Changelog {
    /// Returns the changelog of a case, or `None` if its result is append-only.
    pub(crate) fn of_script(script: &str) -> Result<Option<Self>, String> {
        let Some(number) = script.lines().find_map(|line| line.strip_prefix(KEY_COLUMNS)) else {
            return Ok(None);
        };
        let key_columns = number.trim().parse();
        let key_columns = key_columns.map_err(|_| format!("`{KEY_COLUMNS}{number}` has no number"))?;
        Ok(Some(Self { key_columns }))
    }

    /// Applies the changes of a print sink in order, and returns the rows of the table as sorted lines of CSV. A row
    /// that is removed or replaced must be there before.
    pub(crate) fn table(&self, printed: &str) -> Result<Vec<String>, String> {
        let mut table: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for line in printed.lines() {
            let (is_removal, row) = change(line).ok_or_else(|| format!("not a printed change: {line}"))?;
            let key = row.iter().take(self.key_columns).cloned().collect::<Vec<_>>();
            let is_wrong = match is_removal {
                true => table.remove(&key).as_ref() != Some(&row),
                false => table.insert(key, row).is_some(),
            };
            if is_wrong {
                let what = if is_removal {
                    "removes a row that is not there"
                } else {
                    "adds a second row of its key"
                };
                return Err(format!("`{line}` {what}"));
            }
        }
        let mut lines: Vec<String> = table.into_values().map(|row| row.join(",")).collect();
        lines.sort();
        Ok(lines)
    }
}

/// Checks that every change has zero in the column that the script of a case names, if it does. The changes are
/// printed, or in the format `debezium-json`.
pub(crate) fn check_zero_column(script: &str, changes: &[String]) -> Result<(), String> {
    let Some(number) = script.lines().find_map(|line| line.strip_prefix(ZERO_COLUMN)) else {
        return Ok(());
    };
    let column = number
        .trim()
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1));
    let column = column.ok_or_else(|| format!("`{ZERO_COLUMN}{number}` has no number from 1 on"))?;
    for line in changes {
        let rows = match change(line) {
            Some((_, cells)) => vec![cells.join(",")],
            None => rows_of_change(line).into_iter().flatten().flatten().collect(),
        };
        if rows.is_empty() || rows.iter().any(|row| row.split(',').nth(column) != Some("0")) {
            return Err(format!("column {} is not zero: {line}", column + 1));
        }
    }
    Ok(())
}

/// Returns the rows that changes in the format `debezium-json` make, in any order, as lines of CSV: each as often as it
/// is added more than it is removed. It may not be removed more often.
pub(crate) fn table_of_files(lines: &[String]) -> Result<Vec<String>, String> {
    let mut weights: BTreeMap<String, i64> = BTreeMap::new();
    for line in lines {
        let [before, after] = rows_of_change(line).ok_or_else(|| format!("not a change: {line}"))?;
        for (row, weight) in [(before, -1), (after, 1)] {
            if let Some(row) = row {
                *weights.entry(row).or_default() += weight;
            }
        }
    }
    let mut rows = Vec::new();
    for (row, weight) in weights {
        let weight = usize::try_from(weight).map_err(|_| format!("the row `{row}` has the weight {weight}"))?;
        rows.extend(std::iter::repeat_n(row, weight));
    }
    Ok(rows)
}

/// Returns the rows before and after a change in the format `debezium-json`, as lines of CSV. Numbers keep their
/// digits.
fn rows_of_change(line: &str) -> Option<[Option<String>; 2]> {
    let (before, rest) = line.strip_prefix(r#"{"before":"#)?.split_once(r#","after":"#)?;
    let (after, _) = rest.rsplit_once(r#","op":"#)?;
    let row = |object: &str| match object {
        "null" => Some(None),
        object => {
            let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object).ok()?;
            let mut rest = object;
            let mut cells = Vec::new();
            for (name, value) in &values {
                rest = rest.split_once(&format!("{}:", serde_json::to_string(name).ok()?))?.1;
                cells.push(match value {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    _ => rest.split([',', '}']).next()?.to_owned(),
                });
            }
            Some(Some(cells.join(",")))
        }
    };
    Some([row(before)?, row(after)?])
}

/// Parses `2> -U[a, null]` into whether it removes the row, and the values.
fn change(line: &str) -> Option<(bool, Vec<String>)> {
    let change = line.split_once("> ").map_or(line, |(_, change)| change);
    let is_removal = match change.get(..2)? {
        "+I" | "+U" => false,
        "-U" | "-D" => true,
        _ => return None,
    };
    let values = change[2..].strip_prefix('[')?.strip_suffix(']')?;
    let values = values.split(", ").map(|value| match value {
        "null" => String::new(),
        value => value.to_owned(),
    });
    Some((is_removal, values.collect()))
}

#[test]
fn changes_make_a_table() {
    let changelog = Changelog { key_columns: 1 };
    let printed = "+I[a, 1]\n2> +I[null, 7]\n-U[a, 1]\n+U[a, 2]\n+I[b, 1]\n-D[b, 1]\n";
    assert_eq!(changelog.table(printed).unwrap(), [",7", "a,2"]);
    for wrong in ["+I[a, 1]\n+I[a, 2]", "-D[a, 1]", "+I[a, 1]\n-U[a, 2]\n+U[a, 3]"] {
        assert!(changelog.table(wrong).is_err(), "{wrong}");
    }
    assert!(changelog.table("a line").is_err());
}

#[test]
fn changes_in_files_make_a_table() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let changes = r#"{"before":{"k":"a","n":1.50},"after":null,"op":"d"}
{"before":null,"after":{"k":"a","n":1.50},"op":"c"}
{"before":null,"after":{"k":"a, \"n\":7","n":2.00},"op":"c"}
{"before":null,"after":{"k":null,"n":true},"op":"c"}"#;
    assert_eq!(table_of_files(&lines(changes)).unwrap(), [",true", "a, \"n\":7,2.00"]);
    assert_eq!(
        table_of_files(&lines(&format!("{changes}\n{changes}"))).unwrap().len(),
        4
    );
    assert!(table_of_files(&lines(changes)[..1]).is_err());
    assert!(table_of_files(&["a line".to_owned()]).is_err());
}

#[test]
fn the_zero_column_is_checked_in_every_change() {
    let script = "-- key columns: 0\n-- zero column: 2\nSELECT";
    let check = |line: &str| check_zero_column(script, &[line.to_owned()]);
    assert!(check("-U[7, 0, x]").is_ok() && check("+U[7, 1, x]").is_err());
    assert!(check(r#"{"before":null,"after":{"a":1,"b":0},"op":"c"}"#).is_ok());
    assert!(check(r#"{"before":{"a":1,"b":5},"after":{"a":1,"b":0},"op":"u"}"#).is_err());
    assert!(check("a line").is_err());
    assert!(check_zero_column("SELECT", &["a line".to_owned()]).is_ok());
}
