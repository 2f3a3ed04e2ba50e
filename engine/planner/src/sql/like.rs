//! `CREATE TABLE ... LIKE other (...)`: which parts of the other table the new one takes.

use super::statement::{LikeFeature, LikeMode};
use crate::catalog::{ColumnDeclaration, ColumnKind, TableDeclaration};

/// Adds the parts of another table to a new declaration, as Flink's default or the statement's options say. Returns the
/// reason if a part exists in both and may not be overwritten.
pub(super) fn apply(
    other: &TableDeclaration,
    mut new: TableDeclaration,
    options: &[(LikeMode, LikeFeature)],
) -> Result<TableDeclaration, String> {
    let given = |wanted: LikeFeature| {
        options
            .iter()
            .find(|(_, feature)| *feature == wanted)
            .map(|(mode, _)| *mode)
    };
    let mode = |feature| {
        given(feature)
            .or(given(LikeFeature::All))
            .unwrap_or(LikeMode::Overwriting)
    };
    let taken = |feature| mode(feature) != LikeMode::Excluding;
    let strict = |feature| mode(feature) == LikeMode::Including;

    let mut columns = Vec::new();
    for column in &other.columns {
        let feature = match column.kind {
            ColumnKind::Physical(_) => None,
            ColumnKind::Metadata { .. } => Some(LikeFeature::Metadata),
            ColumnKind::Computed(_) => Some(LikeFeature::Generated),
        };
        if feature.is_some_and(|feature| !taken(feature)) {
            continue;
        }
        let replaced = new
            .columns
            .iter()
            .any(|own| own.name == column.name && same_kind(own, column));
        match feature {
            Some(feature) if replaced && strict(feature) => {
                return Err(format!(
                    "column `{}` is in `{}` already: leave it out, or write OVERWRITING {}",
                    column.name,
                    other.name,
                    if feature == LikeFeature::Metadata {
                        "METADATA"
                    } else {
                        "GENERATED"
                    }
                ));
            }
            Some(_) if replaced => {}
            _ => columns.push(column.clone()),
        }
    }
    columns.append(&mut new.columns);
    new.columns = columns;

    if taken(LikeFeature::Options) {
        for option in &other.options {
            match new.option(&option.name) {
                None => new.options.push(option.clone()),
                Some(_) if strict(LikeFeature::Options) => {
                    return Err(format!(
                        "option '{}' is in `{}` already: leave it out, or write OVERWRITING OPTIONS",
                        option.name, other.name
                    ));
                }
                Some(_) => {}
            }
        }
    }
    if taken(LikeFeature::Watermarks) && other.watermark.is_some() {
        if new.watermark.is_some() && strict(LikeFeature::Watermarks) {
            return Err(format!(
                "`{}` has a watermark already: leave it out, or write OVERWRITING WATERMARKS",
                other.name
            ));
        }
        new.watermark = new.watermark.or_else(|| other.watermark.clone());
    }
    if taken(LikeFeature::Constraints) && !other.primary_key.is_empty() {
        if !new.primary_key.is_empty() && given(LikeFeature::Constraints) == Some(LikeMode::Including) {
            return Err(format!(
                "`{}` has a primary key already: leave it out, or write EXCLUDING CONSTRAINTS",
                other.name
            ));
        }
        if new.primary_key.is_empty() {
            new.primary_key.clone_from(&other.primary_key);
        }
    }
    if taken(LikeFeature::Partitions) && new.partitioned_by.is_empty() {
        new.partitioned_by.clone_from(&other.partitioned_by);
    }
    Ok(new)
}

fn same_kind(left: &ColumnDeclaration, right: &ColumnDeclaration) -> bool {
    std::mem::discriminant(&left.kind) == std::mem::discriminant(&right.kind)
}
