//! Compares the rows of a sink with the expected ones, and explains the difference.
//!
//! Both sides are encoded to JSON by the same encoder, so `700` equals `700.00` in a column of decimals. Columns that
//! no expected row names are not compared; a row without a column that another one names has NULL there.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use millstream_connectors::changelog::Kinds;
use millstream_connectors::{RowKind, TableDefinition};

use super::Expected;
use super::rows::Shape;
use crate::Error;

/// Most lines of one difference.
const LINES_MAX: usize = 20;

/// A row: its kind, if changes are compared, and its cells.
type Cells = (Option<RowKind>, Vec<String>);

/// Returns the differences of a sink, one per line.
pub(super) fn differences(
    table: &TableDefinition,
    found: &[&RecordBatch],
    expected: &Expected,
) -> Result<Vec<String>, Error> {
    let shape = Shape::of_sink(table);
    let named: BTreeSet<&str> = expected
        .rows
        .iter()
        .flat_map(|row| row.names.iter().map(String::as_str))
        .collect();
    let names: Vec<&str> = shape
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let compared: Vec<usize> = (0..names.len()).filter(|index| named.contains(names[*index])).collect();
    let only_compared = |(kind, cells): Cells| {
        let cells = compared.iter().filter_map(|index| cells.get(*index).cloned());
        (kind, cells.collect::<Vec<_>>())
    };

    let wanted = shape.cells(&shape.decode(&expected.rows)?.rows)?;
    let kinds = expected
        .rows
        .iter()
        .map(|row| expected.is_changelog.then_some(row.kind));
    let wanted: Vec<Cells> = kinds.zip(wanted).map(only_compared).collect();

    let mut changes: Vec<(RowKind, Vec<String>)> = Vec::new();
    for rows in found {
        let kinds = Kinds::of(rows)?;
        let cells = shape.cells(rows)?.into_iter().enumerate();
        changes.extend(cells.map(|(row, cells)| (kinds.kind(row), cells)));
    }
    let found: Vec<Cells> = match expected.is_changelog {
        true => changes.into_iter().map(|(kind, cells)| (Some(kind), cells)).collect(),
        false => match table_of(table, &names, changes) {
            Ok(rows) => rows.into_iter().map(|cells| (None, cells)).collect(),
            Err(problem) => return Ok(vec![format!("{}: {problem}", table.name)]),
        },
    };
    let found: Vec<Cells> = found.into_iter().map(only_compared).collect();

    let names: Vec<&str> = compared.iter().map(|index| names[*index]).collect();
    let lines = match expected.is_ordered {
        true => ordered(&names, &wanted, &found),
        false => unordered(&names, wanted, found),
    };
    let more = lines.len().saturating_sub(LINES_MAX);
    let mut lines: Vec<String> = lines
        .into_iter()
        .take(LINES_MAX)
        .map(|line| format!("{}: {line}", table.name))
        .collect();
    if more > 0 {
        lines.push(format!("{}: {more} more differences", table.name));
    }
    Ok(lines)
}

/// Applies changes in their order, and returns the rows of the table that they make.
fn table_of(
    table: &TableDefinition,
    names: &[&str],
    changes: Vec<(RowKind, Vec<String>)>,
) -> Result<Vec<Vec<String>>, String> {
    let key: Vec<usize> = (0..names.len())
        .filter(|index| table.primary_key.iter().any(|column| column == names[*index]))
        .collect();
    let has_same_key = |a: &[String], b: &[String]| match key.is_empty() {
        true => a == b,
        false => key.iter().all(|index| a.get(*index) == b.get(*index)),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (kind, cells) in changes {
        let same = rows.iter().position(|row| has_same_key(row, &cells));
        match (kind.is_removal(), same) {
            (true, Some(index)) => {
                rows.remove(index);
            }
            // With a key, a deletion may be of a row that was not there.
            (true, None) if key.is_empty() => {
                return Err(format!(
                    "{} removes a row that is not there",
                    text(names, &(Some(kind), cells))
                ));
            }
            (true, None) => {}
            (false, Some(index)) if !key.is_empty() => rows[index] = cells,
            (false, _) => rows.push(cells),
        }
    }
    Ok(rows)
}

/// Compares rows at the same place.
fn ordered(names: &[&str], wanted: &[Cells], found: &[Cells]) -> Vec<String> {
    (0..wanted.len().max(found.len()))
        .filter_map(|index| match (wanted.get(index), found.get(index)) {
            (Some(wanted), Some(found)) if wanted == found => None,
            (Some(wanted), Some(found)) => Some(format!("row {}: {}", index + 1, changed(names, wanted, found))),
            (Some(wanted), None) => Some(format!("row {}: missing {}", index + 1, text(names, wanted))),
            (None, found) => found.map(|found| format!("row {}: unexpected {}", index + 1, text(names, found))),
        })
        .collect()
}

/// Compares rows in any order. A missing and an unexpected row that share most columns are one changed row.
fn unordered(names: &[&str], wanted: Vec<Cells>, mut found: Vec<Cells>) -> Vec<String> {
    let mut missing = Vec::new();
    for row in wanted {
        match found.iter().position(|other| *other == row) {
            Some(index) => {
                found.remove(index);
            }
            None => missing.push(row),
        }
    }
    let mut lines = Vec::new();
    for row in missing {
        let equal_cells = |other: &Cells| other.1.iter().zip(&row.1).filter(|(a, b)| a == b).count();
        let nearest = (0..found.len())
            .filter(|index| 2 * equal_cells(&found[*index]) >= names.len() && equal_cells(&found[*index]) > 0)
            .max_by_key(|index| equal_cells(&found[*index]));
        lines.push(match nearest {
            Some(index) => changed(names, &row, &found.remove(index)),
            None => format!("missing {}", text(names, &row)),
        });
    }
    lines.extend(found.iter().map(|row| format!("unexpected {}", text(names, row))));
    lines
}

/// Describes the columns in which two rows differ.
fn changed(names: &[&str], wanted: &Cells, found: &Cells) -> String {
    let mut differing: Vec<String> = Vec::new();
    if wanted.0 != found.0 {
        let symbol = |kind: Option<RowKind>| kind.map_or("", RowKind::symbol);
        differing.push(format!("kind expected {}, found {}", symbol(wanted.0), symbol(found.0)));
    }
    let cells = names.iter().zip(wanted.1.iter().zip(&found.1));
    let cells = cells.filter(|(_, (wanted, found))| wanted != found);
    differing.extend(cells.map(|(name, (wanted, found))| format!("`{name}` expected {wanted}, found {found}")));
    format!("changed {}: {}", text(names, wanted), differing.join("; "))
}

/// Returns a row as text.
fn text(names: &[&str], (kind, cells): &Cells) -> String {
    let cells: Vec<String> = names
        .iter()
        .zip(cells)
        .map(|(name, cell)| format!("{name}: {cell}"))
        .collect();
    let kind = kind.map_or(String::new(), |kind| format!("{} ", kind.symbol()));
    format!("{kind}{{{}}}", cells.join(", "))
}
