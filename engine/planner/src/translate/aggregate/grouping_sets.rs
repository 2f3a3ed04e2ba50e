//! `GROUPING SETS`, `CUBE` and `ROLLUP`: one aggregate per set, put together.

use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, GroupingSet};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{Column, Literal};

use crate::translate::plan::null;
use crate::translate::relation::{Attribute, ColumnInfo, Pending, Relation};
use crate::translate::{Result, Translator};

impl Translator<'_> {
    /// One aggregate per set, with NULL for the keys a set leaves out, put together.
    pub(super) fn grouping_sets(
        &mut self,
        input: Relation,
        aggregate: &LogicalAggregate,
        sets: &GroupingSet,
        schema: &DFSchema,
    ) -> Result<Relation> {
        let GroupingSet::GroupingSets(sets) = sets else {
            return Err(self.error("write CUBE and ROLLUP out as GROUPING SETS ((window_start, window_end, ...), ...)"));
        };
        let input = self.resolve(input)?;
        let all = self.located(datafusion::logical_expr::utils::grouping_set_to_exprlist(
            &aggregate.group_expr,
        ))?;
        let fields = aggregate.schema.fields();
        let mut branches = Vec::new();
        let mut columns: Option<Vec<ColumnInfo>> = None;
        for set in sets {
            let present: Vec<bool> = all.iter().map(|expr| set.contains(*expr)).collect();
            let group: Vec<Expr> = set.to_vec();
            let calls = self.calls(&aggregate.aggr_expr, schema)?;
            let keys = self.keys(&group, schema, &input)?;
            let names: Vec<String> = group
                .iter()
                .map(|expr| expr.schema_name().to_string())
                .chain(aggregate.aggr_expr.iter().map(|expr| expr.schema_name().to_string()))
                .collect();
            let part = self.grouped(input.clone(), keys, calls, &names)?;
            let mut exprs = Vec::with_capacity(fields.len());
            let mut infos = Vec::with_capacity(fields.len());
            let mut grouping_id: u64 = 0;
            for (index, field) in fields.iter().enumerate() {
                let position = match index.cmp(&all.len()) {
                    std::cmp::Ordering::Less => {
                        grouping_id = grouping_id << 1 | u64::from(!present[index]);
                        group.iter().position(|expr| expr == all[index])
                    }
                    std::cmp::Ordering::Equal => None,
                    std::cmp::Ordering::Greater => Some(group.len() + index - all.len() - 1),
                };
                let mut info = ColumnInfo {
                    name: field.name().clone(),
                    data_type: field.data_type().clone(),
                    attribute: Attribute::None,
                    origin: None,
                };
                let expr: PhysicalExprRef = match position {
                    Some(position) => {
                        info.attribute = part.columns[position].attribute;
                        Arc::new(Column::new(field.name(), position))
                    }
                    None if index == all.len() => {
                        let id = ScalarValue::UInt64(Some(grouping_id)).cast_to(field.data_type());
                        Arc::new(Literal::new(self.located(id)?))
                    }
                    None => self.located(null(field.data_type()))?,
                };
                exprs.push(expr);
                infos.push(info);
            }
            let part = self.project_physical(part, &exprs, infos)?;
            columns = Some(match columns {
                None => part.columns,
                Some(columns) => self.common_columns(columns, &part.columns),
            });
            branches.extend(part.branches);
        }
        Ok(Relation {
            branches,
            columns: columns.unwrap_or_default(),
            pending: Pending::Nothing,
        })
    }
}
