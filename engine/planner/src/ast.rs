//! Construction and inspection of parsed SQL expressions.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Value, ValueWithSpan,
};

/// Returns the name and the arguments of a call, or `None` if the name is qualified or an argument is named.
pub(crate) fn call_parts(function: &Function) -> Option<(String, Vec<Expr>)> {
    let [part] = function.name.0.as_slice() else {
        return None;
    };
    let name = part.as_ident()?.value.clone();
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let arguments = list
        .args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    Some((name, arguments))
}

/// Returns a function call.
pub(crate) fn call(name: Ident, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments
                .into_iter()
                .map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)))
                .collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Returns a string literal.
pub(crate) fn text(value: impl Into<String>) -> Expr {
    Expr::Value(ValueWithSpan::from(Value::SingleQuotedString(value.into())))
}

/// Takes an expression out of the tree, and leaves a literal in its place.
pub(crate) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Boolean(false)))
}

/// Returns `, not ...` with the text of an expression, for messages; empty if a rewrite has changed the expression into
/// one that the user did not write.
pub(crate) fn not_written(expr: &Expr) -> String {
    let text = expr.to_string();
    match text.contains('$') {
        true => String::new(),
        false => format!(", not `{text}`"),
    }
}

/// Returns the number 1.
pub(crate) fn one() -> Expr {
    Expr::value(Value::Number("1".to_owned(), false))
}
