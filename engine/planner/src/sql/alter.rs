//! `ALTER TABLE`: changes of a declaration, before the table is used.

use datafusion::sql::sqlparser::ast::Ident;
use millstream_proto::spec::did_you_mean;

use super::statement::TableChange;
use super::tokens::place;
use crate::catalog::TableDeclaration;
use crate::error::Error;

/// Applies a change to a declaration.
pub(super) fn apply(table: &mut TableDeclaration, change: TableChange) -> Result<(), Vec<Error>> {
    match change {
        TableChange::SetOptions(options) => {
            for option in options {
                table.options.retain(|known| known.name != option.name);
                table.options.push(option);
            }
        }
        TableChange::ResetOptions(keys) => {
            for (key, location) in keys {
                let before = table.options.len();
                table.options.retain(|option| option.name != key);
                if table.options.len() == before {
                    let hint = did_you_mean(&key, table.options.iter().map(|option| option.name.as_str()));
                    return Err(vec![Error {
                        location,
                        message: format!("table `{}` has no option '{key}' to reset{hint}", table.name),
                    }]);
                }
            }
        }
        TableChange::Rename(name) => name.value().clone_into(&mut table.name),
        TableChange::Add(added) => {
            let TableDeclaration {
                columns,
                watermark,
                primary_key,
                ..
            } = *added;
            table.columns.extend(columns);
            if let (Some(clause), Some(_)) = (&watermark, &table.watermark) {
                return Err(vec![Error {
                    location: clause.location.clone(),
                    message: format!("table `{}` has a watermark already: MODIFY it", table.name),
                }]);
            }
            table.watermark = watermark.or_else(|| table.watermark.take());
            table.primary_key.extend(primary_key);
        }
        TableChange::Modify(modified) => {
            let TableDeclaration {
                columns,
                watermark,
                primary_key,
                ..
            } = *modified;
            for column in columns {
                let name = Ident::new(column.name.clone());
                let at = position(table, &name).map_err(|mut error| {
                    error.location = column.location.clone();
                    vec![error]
                })?;
                table.columns[at] = column;
            }
            table.watermark = watermark.or_else(|| table.watermark.take());
            if !primary_key.is_empty() {
                table.primary_key = primary_key;
            }
        }
        TableChange::RenameColumn { from, to } => {
            let at = position(table, &from).map_err(|error| vec![error])?;
            to.value.clone_into(&mut table.columns[at].name);
        }
        TableChange::DropColumns(columns) => {
            for column in columns {
                let at = position(table, &column).map_err(|error| vec![error])?;
                table.columns.remove(at);
            }
        }
        TableChange::DropWatermark => table.watermark = None,
        TableChange::DropPrimaryKey => table.primary_key.clear(),
    }
    Ok(())
}

fn position(table: &TableDeclaration, column: &Ident) -> Result<usize, Error> {
    let mut names = table.columns.iter().map(|known| known.name.as_str());
    names
        .clone()
        .position(|name| name == column.value)
        .ok_or_else(|| Error {
            location: place(column),
            message: format!(
                "table `{}` has no column `{}`{}",
                table.name,
                column.value,
                did_you_mean(&column.value, names.by_ref())
            ),
        })
}
