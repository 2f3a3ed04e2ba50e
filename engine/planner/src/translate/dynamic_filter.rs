//! Dynamic filters: rows that cannot match are dropped before a join with the extremes of their own windows.
//!
//! "The highest bids of each window" is a join of the bids with `MAX(price)` over the same bids. Executed literally,
//! the join stores every bid until its window ends. But a bid below an earlier bid of its window is below the maximum,
//! whatever follows: it need be neither sent nor stored. If both sides provably read the same rows, a [`DynamicFilter`]
//! node before the join drops such rows. It changes no result, only the number of rows that the join processes.

use std::collections::HashMap;

use arrow_schema::DataType;
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use millstream_graph::{DynamicFilter, ErrorPolicy, Extreme, NodeIndex, Operator, Window};

use super::calc::materialize_branch;
use super::context::{Context, Result};
use super::relation::{Attribute, Bound, Branch, Pending, Relation, bare_column, is_virtual};

/// A window aggregate that computes extremes of its rows.
#[derive(Debug, Clone)]
pub(super) struct Extremes {
    /// Rows that the aggregate reads. Their time is the first carried expression.
    rows: Branch,
    window: Window,
    /// Group keys, over the node of `rows`: the aggregate's first columns.
    keys: Vec<PhysicalExprRef>,
    /// Per aggregate call (the columns after the keys), the value that it is an extreme of, if it is one.
    calls: Vec<Option<(PhysicalExprRef, Extreme)>>,
}

/// The comparison that a filter makes.
struct FilterSpec {
    window: Window,
    value: PhysicalExprRef,
    extreme: Extreme,
    keys: Vec<PhysicalExprRef>,
}

/// One side of a join: its rows, and the expressions over its columns that must equal those of the other side.
pub(super) struct JoinInput {
    pub relation: Relation,
    pub on: Vec<PhysicalExprRef>,
}

/// Returns true if rows of the left (or else the right) side of a join that match no row of the other side have no
/// effect.
pub(super) fn drops_unmatched(join_type: JoinType, left: bool) -> bool {
    match join_type {
        JoinType::Inner | JoinType::LeftSemi => true,
        JoinType::Right => left,
        JoinType::Left | JoinType::LeftAnti => !left,
        _ => false,
    }
}

/// The window aggregates whose results can filter the rows of a join.
#[derive(Debug, Default)]
pub(super) struct DynamicFilters {
    extremes: HashMap<NodeIndex, Extremes>,
}

impl DynamicFilters {
    /// Records that a node computes these extremes.
    pub(super) fn add(&mut self, node: NodeIndex, extremes: Extremes) {
        self.extremes.insert(node, extremes);
    }

    /// Returns a side of a join without the rows that match nothing, if the other side consists of their windows'
    /// extremes.
    pub(super) fn apply(&self, cx: &mut Context<'_>, rows: &JoinInput, extremes: &JoinInput) -> Result<Relation> {
        match self.filter_spec(cx, rows, extremes)? {
            Some(spec) => dynamic_filter(cx, &rows.relation, spec),
            None => Ok(rows.relation.clone()),
        }
    }

    /// Returns the filter of the rows, if both sides provably read the same rows.
    fn filter_spec(&self, cx: &Context<'_>, rows: &JoinInput, extremes: &JoinInput) -> Result<Option<FilterSpec>> {
        let (Pending::Window(pending), [branch]) = (&rows.relation.pending, rows.relation.branches.as_slice()) else {
            return Ok(None);
        };
        let (Pending::Nothing, [made]) = (&extremes.relation.pending, extremes.relation.branches.as_slice()) else {
            return Ok(None);
        };
        let Some(found) = self.extremes.get(&made.node) else {
            return Ok(None);
        };
        // A dropped row would be missing from the counts and outputs of failed and late rows.
        if cx.scope.on_error != ErrorPolicy::Fail || !pending.late.is_empty() {
            return Ok(None);
        }
        if found.window != pending.window || !is_subset(branch, &found.rows) {
            return Ok(None);
        }

        // Expressions of the rows that must equal a column of the aggregate, with the index of that column.
        let mut equal: Vec<(usize, PhysicalExprRef)> = Vec::new();
        let mut same_window = false;
        for (row, extreme) in rows.on.iter().zip(&extremes.on) {
            let attribute = |relation: &Relation, expr: &PhysicalExprRef| {
                bare_column(expr).map_or(Attribute::None, |index| relation.columns[index].attribute)
            };
            match (attribute(&rows.relation, row), attribute(&extremes.relation, extreme)) {
                (Attribute::Window(id, bound), Attribute::Window(_, other)) if id == pending.id && bound == other => {
                    same_window |= bound != Bound::Start || cx.windows[id].start_determines_end();
                }
                _ => {
                    if let Some(column) = bare_column(&cx.located(made.compose(extreme))?) {
                        equal.push((column, cx.located(branch.compose(row))?));
                    }
                }
            }
        }
        let key_count = found.keys.len();
        let all_keys = (0..key_count).all(|key| equal.contains(&(key, found.keys[key].clone())));
        if !same_window || !all_keys {
            return Ok(None);
        }
        let schema = cx.schema(branch.node);
        for (column, value) in &equal {
            let call = column.checked_sub(key_count).and_then(|call| found.calls.get(call));
            let Some(Some((of, extreme))) = call else { continue };
            if of != value || is_volatile(value) || found.keys.iter().any(is_volatile) {
                continue;
            }
            let data_type = cx.located(value.data_type(&schema))?;
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
}

impl Extremes {
    /// Returns the extremes that an aggregate over a pending window computes. `calls` has, for each aggregate call, the
    /// column that it is an extreme of, if it is one. Keys and columns are over the relation.
    pub(super) fn new<'e>(
        cx: &Context<'_>,
        input: &Relation,
        keys: impl Iterator<Item = &'e PhysicalExprRef>,
        calls: impl Iterator<Item = Option<(&'e PhysicalExprRef, Extreme)>>,
    ) -> Result<Option<Self>> {
        let (Pending::Window(pending), [rows]) = (&input.pending, input.branches.as_slice()) else {
            return Ok(None);
        };
        if !pending.event_time || matches!(pending.window, Window::Session { .. }) {
            return Ok(None);
        }
        let keys: Result<Vec<_>, _> = keys.map(|key| rows.compose(key)).collect();
        let calls = calls.map(|call| {
            let call = call.map(|(value, extreme)| Ok((rows.compose(value)?, extreme)));
            call.transpose()
        });
        let calls: Result<Vec<_>, _> = calls.collect();
        Ok(Some(Self {
            rows: rows.clone(),
            window: pending.window,
            keys: cx.located(keys)?,
            calls: cx.located(calls)?,
        }))
    }
}

fn dynamic_filter(cx: &mut Context<'_>, relation: &Relation, compared: FilterSpec) -> Result<Relation> {
    let mut relation = relation.clone();
    // The pending filter becomes a column, so that rows are copied once, after both filters.
    let mut branch = relation.branches[0].clone();
    let carried = branch.carried.len();
    let condition = branch.filter.take();
    let key_count = compared.keys.len();
    branch.carried.push(compared.value);
    branch.carried.extend(compared.keys);
    branch.carried.extend(condition);
    let mut branch = materialize_branch(cx, &branch, &relation.columns)?;
    let columns: Option<Vec<usize>> = branch.carried.iter().map(bare_column).collect();
    let columns = columns.ok_or_else(|| cx.error("a materialised row has columns only"))?;
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
    let output = cx.builder.nodes[branch.node].output.clone();
    branch.node = cx.add_after(branch.node, "dynamic-filter", operator, output);
    relation.branches = vec![branch];
    Ok(relation)
}

/// Returns true for types that filter, `MAX` and join order and compare alike. Floats are not among them because of
/// NaN.
fn has_total_order(data_type: &DataType) -> bool {
    let is_time = matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
    data_type.is_integer() || data_type.is_decimal() || is_time
}

/// Returns true if all rows of the first branch are rows of the second, with the same times.
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
