//! Casts of one value to several types in a `GROUP BY`.
//!
//! DataFusion names a cast like the value that is cast, and refuses two groups of one name, such as those of `GROUP BY
//! CAST(x AS INT), CAST(x AS STRING)`. Where groups differ in their casts only, a function around each of these casts
//! gives it the name of its type. [`super::casts::lower`] removes the functions.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Ident, Query, Select, Spanned, VisitMut, VisitorMut};

use crate::ast::{call, take, text};
use crate::functions::TYPED;

/// Names the casts of a `SELECT` whose groups differ in their casts only; leaves others unchanged.
pub(super) fn rewrite(select: &mut Select) {
    let GroupByExpr::Expressions(expressions, _) = &select.group_by else {
        return;
    };
    let mut seen = HashSet::new();
    let are_different = expressions.iter().all(|expression| {
        let mut name = expression.clone();
        match name.visit(&mut WithoutCasts) {
            ControlFlow::Continue(()) | ControlFlow::Break(()) => seen.insert(name.to_string()),
        }
    });
    if are_different {
        return;
    }
    let mut casts = Casts(HashSet::new());
    let mut groups = expressions.clone();
    match groups.visit(&mut casts) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
    }
    match select.visit(&mut Named {
        casts: &casts.0,
        open: 0,
    }) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
    }
}

/// Replaces casts by the values that are cast.
struct WithoutCasts;

impl VisitorMut for WithoutCasts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, .. } = expr {
            *expr = take(inner);
        }
        ControlFlow::Continue(())
    }
}

/// The texts of the casts in an expression.
struct Casts(HashSet<String>);

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { .. } = expr {
            self.0.insert(expr.to_string());
        }
        ControlFlow::Continue(())
    }
}

/// Puts the function around casts of these texts.
struct Named<'a> {
    casts: &'a HashSet<String>,
    /// Number of subqueries around the expression.
    open: usize,
}

impl VisitorMut for Named<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.open += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.open -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.open > 0 {
            return ControlFlow::Continue(());
        }
        let Expr::Cast { data_type, .. } = &*expr else {
            return ControlFlow::Continue(());
        };
        let data_type = text(data_type.to_string());
        if self.casts.contains(&expr.to_string()) {
            let name = Ident::with_span(expr.span(), TYPED);
            *expr = call(name, vec![take(expr), data_type]);
        }
        ControlFlow::Continue(())
    }
}
