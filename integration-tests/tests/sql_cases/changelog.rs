//! Changelogs that a case prints, and the tables that they make.

use std::collections::BTreeMap;

/// Mark of a case whose result is a changelog, before the number of leading columns that identify a row.
const KEY_COLUMNS: &str = "-- key columns: ";

/// The printed changelog of a case.
pub(crate) struct Changelog {
    key_columns: usize,
}

/// The changes that a changelog may consist of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// All changes once: a row that is removed or replaced was there before.
    Complete,
    /// After a restart, changes since the last checkpoint are repeated.
    Repeated,
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

    /// Applies the changes of a print sink in order, and returns the rows of the table as sorted lines of CSV.
    pub(crate) fn table(&self, printed: &str, order: Order) -> Result<Vec<String>, String> {
        let mut table: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for line in printed.lines() {
            let (is_removal, row) = change(line).ok_or_else(|| format!("not a printed change: {line}"))?;
            let key = row.iter().take(self.key_columns).cloned().collect::<Vec<_>>();
            let is_wrong = match is_removal {
                true => table.remove(&key).as_ref() != Some(&row),
                false => table.insert(key, row).is_some(),
            };
            if is_wrong && order == Order::Complete {
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
    assert_eq!(changelog.table(printed, Order::Complete).unwrap(), [",7", "a,2"]);
    for wrong in ["+I[a, 1]\n+I[a, 2]", "-D[a, 1]", "+I[a, 1]\n-U[a, 2]\n+U[a, 3]"] {
        assert!(changelog.table(wrong, Order::Complete).is_err(), "{wrong}");
    }
    let repeated = "+I[a, 1]\n-U[a, 1]\n+U[a, 2]\n-U[a, 1]\n+U[a, 2]";
    assert_eq!(changelog.table(repeated, Order::Repeated).unwrap(), ["a,2"]);
    assert!(changelog.table("a line", Order::Repeated).is_err());
}
