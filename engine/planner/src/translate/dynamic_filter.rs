//! Rows that a join with their own window's maximum cannot want are dropped before they get there.
//!
//! "The highest bids of each window" is a join of the bids with `MAX(price)` over the same bids. Taken literally, the
//! join keeps every bid until its window ends. But a row that is less than one which its window already has is less than
//! the maximum, whatever else comes: it needs neither to be sent nor to be kept. Where both sides provably read the same
//! rows, a [`DynamicFilter`] in front of the join drops those. It changes no result, only how many rows the join sees.

use arrow_schema::DataType;
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use super::aggregate::Call;
use super::relation::{Attribute, Bound, Branch, Pending, Relation, bare_column, is_virtual};
use super::{Result, Translator};
use millstream_graph::{DynamicFilter, ErrorPolicy, Extreme, Operator, Window};

/// A window aggregate that finds extremes of its rows.
#[derive(Debug, Clone)]
pub(super) struct Extremes {
    /// The rows it reads. Its time is carried first.
    rows: Branch,
    window: Window,
    /// Group keys, over the node of `rows`: the aggregate's first columns.
    keys: Vec<PhysicalExprRef>,
    /// By aggregate call, the columns after the keys: what it is an extreme of, if it is one.
    calls: Vec<Option<(PhysicalExprRef, Extreme)>>,
}

/// What a relation's rows are compared by.
struct FilterSpec {
    window: Window,
    value: PhysicalExprRef,
    extreme: Extreme,
    keys: Vec<PhysicalExprRef>,
}

/// One side of a join: its rows, and the expressions over its columns that must equal the other side's.
pub(super) struct JoinInput {
    pub relation: Relation,
    pub on: Vec<PhysicalExprRef>,
}

/// Whether the rows of the left (or else the right) side of a join that meet none of the other side leave no trace.
pub(super) fn drops_unmatched(join_type: JoinType, left: bool) -> bool {
    match join_type {
        JoinType::Inner | JoinType::LeftSemi => true,
        JoinType::Right => left,
        JoinType::Left | JoinType::LeftAnti => !left,
        _ => false,
    }
}

impl Translator<'_> {
    /// What an aggregate over a pending window finds, should a join ask.
    pub(super) fn extremes<'e>(
        &self,
        input: &Relation,
        keys: impl Iterator<Item = &'e PhysicalExprRef>,
        calls: &[Call],
    ) -> Result<Option<Extremes>> {
        let (Pending::Window(pending), [rows]) = (&input.pending, input.branches.as_slice()) else {
            return Ok(None);
        };
        if !pending.event_time || matches!(pending.window, Window::Session { .. }) {
            return Ok(None);
        }
        let keys: Result<Vec<_>, _> = keys.map(|key| rows.compose(key)).collect();
        let calls = calls.iter().map(|call| {
            let params = &call.function.params;
            let extreme = match call.function.func.name() {
                "max" => Extreme::Greatest,
                "min" => Extreme::Least,
                _ => return Ok(None),
            };
            let plain = call.filter.is_none() && params.order_by.is_empty();
            match call.args.as_slice() {
                [argument] if plain => Ok(Some((rows.compose(argument)?, extreme))),
                _ => Ok(None),
            }
        });
        let calls: Result<Vec<_>, _> = calls.collect();
        Ok(Some(Extremes {
            rows: rows.clone(),
            window: pending.window,
            keys: self.located(keys)?,
            calls: self.located(calls)?,
        }))
    }

    /// The rows of a join's side without those of which the other side, their window's extremes, wants none.
    pub(super) fn filtered_by_extremes(&mut self, rows: &JoinInput, extremes: &JoinInput) -> Result<Relation> {
        match self.filter_spec(rows, extremes)? {
            Some(compared) => self.dynamic_filter(&rows.relation, compared),
            None => Ok(rows.relation.clone()),
        }
    }

    fn filter_spec(&self, rows: &JoinInput, extremes: &JoinInput) -> Result<Option<FilterSpec>> {
        let (Pending::Window(pending), [branch]) = (&rows.relation.pending, rows.relation.branches.as_slice()) else {
            return Ok(None);
        };
        let (Pending::Nothing, [made]) = (&extremes.relation.pending, extremes.relation.branches.as_slice()) else {
            return Ok(None);
        };
        let Some(found) = self.extremes.get(&made.node) else {
            return Ok(None);
        };
        // Rows that fail or are late are counted one by one where somebody wants to know of them.
        if self.scope.on_error != ErrorPolicy::Fail || !pending.late.is_empty() {
            return Ok(None);
        }
        if found.window != pending.window || !is_subset(branch, &found.rows) {
            return Ok(None);
        }

        // By column of the aggregate: what of the rows must equal it.
        let mut equal: Vec<(usize, PhysicalExprRef)> = Vec::new();
        let mut same_window = false;
        for (row, extreme) in rows.on.iter().zip(&extremes.on) {
            let attribute = |relation: &Relation, expr: &PhysicalExprRef| {
                bare_column(expr).map_or(Attribute::None, |index| relation.columns[index].attribute)
            };
            match (attribute(&rows.relation, row), attribute(&extremes.relation, extreme)) {
                (Attribute::Window(id, bound), Attribute::Window(_, other)) if id == pending.id && bound == other => {
                    same_window |= bound != Bound::Start || self.windows[id].start_determines_end();
                }
                _ => {
                    if let Some(column) = bare_column(&self.located(made.compose(extreme))?) {
                        equal.push((column, self.located(branch.compose(row))?));
                    }
                }
            }
        }
        let key_count = found.keys.len();
        let all_keys = (0..key_count).all(|key| equal.contains(&(key, found.keys[key].clone())));
        if !same_window || !all_keys {
            return Ok(None);
        }
        let schema = self.schema(branch.node);
        for (column, value) in &equal {
            let call = column.checked_sub(key_count).and_then(|call| found.calls.get(call));
            let Some(Some((of, extreme))) = call else { continue };
            if of != value || is_volatile(value) || found.keys.iter().any(is_volatile) {
                continue;
            }
            let data_type = self.located(value.data_type(&schema))?;
            if has_total_order(&data_type) {
                return Ok(Some(FilterSpec {
                    window: found.window,
                    value: value.clone(),
                    extreme: *extreme,
                    keys: found.keys.clone(),
                }));
            }
        }
        Ok(None)
    }

    fn dynamic_filter(&mut self, relation: &Relation, compared: FilterSpec) -> Result<Relation> {
        let mut relation = relation.clone();
        // The filter becomes a column, so that rows are copied once, after both filters.
        let mut branch = relation.branches[0].clone();
        let carried = branch.carried.len();
        let condition = branch.filter.take();
        let key_count = compared.keys.len();
        branch.carried.push(compared.value);
        branch.carried.extend(compared.keys);
        branch.carried.extend(condition);
        let mut branch = self.materialize_branch(&branch, &relation.columns)?;
        let columns: Option<Vec<usize>> = branch.carried.iter().map(bare_column).collect();
        let columns = columns.ok_or_else(|| self.error("a settled row has columns only"))?;
        branch.carried.truncate(carried);
        let (keys, condition) = columns[carried + 1..].split_at(key_count);
        let operator = Operator::DynamicFilter(DynamicFilter {
            condition: condition.first().copied(),
            window: compared.window,
            time: columns[0],
            keys: keys.to_vec(),
            value: columns[carried],
            extreme: compared.extreme,
        });
        let below = &self.builder.nodes[branch.node];
        let (output, parallelism) = (below.output.clone(), below.parallelism);
        let edge = self.builder.unkeyed_edge(branch.node, 0, parallelism);
        let owner = self.scope.owner.clone();
        branch.node = self
            .builder
            .add(&owner, "dynamic-filter", operator, vec![edge], output, parallelism);
        relation.branches = vec![branch];
        Ok(relation)
    }
}

/// Types of which "less" and "equal" mean the same here, in `MAX`, and to a join. NaN is why floats are not among them.
fn has_total_order(data_type: &DataType) -> bool {
    let is_time = matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
    data_type.is_integer() || data_type.is_decimal() || is_time
}

/// Whether all rows of the first branch are among those of the second, under the same times.
fn is_subset(rows: &Branch, all: &Branch) -> bool {
    let conditions = |branch: &Branch| -> Vec<PhysicalExprRef> {
        let filter = branch.filter.iter();
        filter
            .flat_map(|filter| split_conjunction(filter).into_iter().cloned())
            .collect()
    };
    let (narrow, wide) = (conditions(rows), conditions(all));
    rows.node == all.node
        && rows.carried.first() == all.carried.first()
        && narrow
            .iter()
            .chain(&wide)
            .all(|condition| !is_virtual(condition) && !is_volatile(condition))
        && wide.iter().all(|condition| narrow.contains(condition))
}
