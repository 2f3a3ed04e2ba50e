//! Nodes for the pending parts of a relation.

use datafusion::physical_expr::PhysicalExprRef;

use super::calc::materialize_branch;
use super::context::{Context, Result};
use super::relation::{Pending, Relation};
use super::top_n::top_n;
use super::window_assign::assign;

/// Makes nodes for a pending window or rank, so that all columns exist.
pub(super) fn resolve(cx: &mut Context<'_>, relation: Relation) -> Result<Relation> {
    match relation.pending {
        Pending::Nothing => Ok(relation),
        Pending::Window(_) => assign(cx, relation),
        Pending::Rank(_) => top_n(cx, relation),
    }
}

/// Makes a node for the pending projection and filter of each branch. A pending window stays pending.
pub(super) fn materialize(cx: &mut Context<'_>, mut relation: Relation) -> Result<Relation> {
    if let Pending::Rank(_) = relation.pending {
        relation = resolve(cx, relation)?;
    }
    for index in 0..relation.branches.len() {
        relation.branches[index] = materialize_branch(cx, &relation.branches[index].clone(), &relation.columns)?;
    }
    Ok(relation)
}

pub(super) fn materialize_if_repeated(
    cx: &mut Context<'_>,
    relation: Relation,
    exprs: &[PhysicalExprRef],
) -> Result<Relation> {
    if relation.branches.iter().any(|branch| branch.would_repeat(exprs)) {
        materialize(cx, relation)
    } else {
        Ok(relation)
    }
}

/// Materialises the relation if `exprs` read volatile columns, which must be evaluated once: a condition on `RAND() AS
/// u` is a condition on the `u` of the row.
pub(super) fn materialize_if_volatile(
    cx: &mut Context<'_>,
    relation: Relation,
    exprs: &[PhysicalExprRef],
) -> Result<Relation> {
    let reads_volatile = |relation: &Relation| relation.branches.iter().any(|branch| branch.reads_volatile(exprs));
    if !reads_volatile(&relation) {
        return Ok(relation);
    }
    let settled = materialize(cx, relation)?;
    if !reads_volatile(&settled) {
        return Ok(settled);
    }
    // The volatile expression reads a pending window's bounds too.
    let resolved = resolve(cx, settled)?;
    materialize(cx, resolved)
}
