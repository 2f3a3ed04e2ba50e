//! Functions that are another spelling of an expression, or of a function DataFusion has.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, Ident, UnaryOperator, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::ast::{call, call_parts, text};

/// Flink's names for DataFusion's scalar functions.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("sign", "signum"),
    ("rand", "random"),
    ("ifnull", "nvl"),
    ("char_length", "character_length"),
    ("startswith", "starts_with"),
    ("endswith", "ends_with"),
    ("array_contains", "array_has"),
    ("array_join", "array_to_string"),
    ("truncate", "trunc"),
    ("pow", "power"),
    // DataFusion's of the plain name removes the first one only.
    ("array_remove", "array_remove_all"),
];

/// Flink's names for DataFusion's aggregates.
pub(super) const AGGREGATE_ALIASES: &[(&str, &str)] = &[
    ("listagg", "string_agg"),
    ("approx_count_distinct", "approx_distinct"),
    ("stddev_samp", "stddev"),
    ("variance", "var"),
    ("collect", "array_agg"),
];

/// Names of Flink's that are not functions here, and what to write instead.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "current_watermark",
        "is not supported: late rows go to the step's `late` output",
    ),
    (
        "to_char",
        "is not Flink's: use DATE_FORMAT(timestamp, 'yyyy-MM-dd HH:mm:ss')",
    ),
    ("date_bin", "is not Flink's: use FLOOR(timestamp TO unit)"),
    ("unnest", "is not supported yet: take elements with `array[1]`"),
];

/// Names that [`rewrite`] takes.
const REWRITTEN: &[&str] = &[
    "mod",
    "if",
    "concat",
    "greatest",
    "least",
    "locate",
    "regexp",
    "regexp_like",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha2",
    "rand_integer",
    "to_base64",
    "from_base64",
    "cardinality",
    "array_length",
    "unix_timestamp",
    "year",
    "quarter",
    "month",
    "week",
    "dayofyear",
    "dayofmonth",
    "dayofweek",
    "hour",
    "minute",
    "second",
    "e",
    "log",
    "substr",
    "substring",
];

pub(super) fn is_rewritten(name: &str) -> bool {
    REWRITTEN.contains(&name)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    REWRITTEN.iter().copied()
}

/// What a call stands for; `None`: itself.
pub(crate) fn rewrite(name: &str, function: &Function, span: Span) -> Option<Expr> {
    if !is_rewritten(name) || function.over.is_some() {
        return None;
    }
    let (_, arguments) = call_parts(function)?;
    let plain = |name: &str, arguments: Vec<Expr>| call(Ident::with_span(span, name), arguments);
    let unit = |unit: &str, arguments: Vec<Expr>| {
        let mut all = vec![text(unit)];
        all.extend(arguments);
        call(Ident::with_span(span, "$part"), all)
    };
    Some(match (name, arguments.as_slice()) {
        ("mod", [left, right]) => nested(Expr::BinaryOp {
            left: Box::new(nested(left.clone())),
            op: BinaryOperator::Modulo,
            right: Box::new(nested(right.clone())),
        }),
        ("if", [condition, yes, no]) => case(condition.clone(), yes.clone(), Some(no.clone())),
        // `||` is NULL where a part is, as CONCAT is in Flink.
        ("concat", [first, rest @ ..]) => {
            let first = plain("$text", vec![first.clone()]);
            nested(rest.iter().fold(first, |left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::StringConcat,
                right: Box::new(nested(right.clone())),
            }))
        }
        // Flink's are NULL where any argument is, DataFusion's leave NULLs out.
        ("greatest" | "least", [_, ..]) => {
            let any_null = arguments
                .iter()
                .map(|argument| Expr::IsNull(Box::new(nested(argument.clone()))))
                .reduce(|left, right| Expr::BinaryOp {
                    left: Box::new(left),
                    op: BinaryOperator::Or,
                    right: Box::new(right),
                })?;
            case(
                Expr::UnaryOp {
                    op: UnaryOperator::Not,
                    expr: Box::new(nested(any_null)),
                },
                plain(&format!("${name}"), arguments),
                None,
            )
        }
        ("locate", [needle, hay]) => plain("strpos", vec![hay.clone(), needle.clone()]),
        ("locate", [_, _, _]) => plain("$locate", arguments),
        ("regexp" | "regexp_like", [_, _]) => plain("$regexp", arguments),
        ("sha224" | "sha256" | "sha384" | "sha512", [_]) => {
            plain("encode", vec![plain(&format!("${name}"), arguments), text("hex")])
        }
        (
            "sha2",
            [
                value,
                Expr::Value(ValueWithSpan {
                    value: Value::Number(bits, _),
                    ..
                }),
            ],
        ) if matches!(bits.as_str(), "224" | "256" | "384" | "512") => plain(
            "encode",
            vec![plain(&format!("$sha{bits}"), vec![value.clone()]), text("hex")],
        ),
        ("rand_integer", [bound]) => cast(
            plain(
                "floor",
                vec![Expr::BinaryOp {
                    left: Box::new(plain("random", Vec::new())),
                    op: BinaryOperator::Multiply,
                    right: Box::new(nested(bound.clone())),
                }],
            ),
            datafusion::sql::sqlparser::ast::DataType::Int(None),
        ),
        // DataFusion's counts the elements of nested arrays too.
        ("cardinality" | "array_length", [_]) => plain("$elements", arguments),
        ("to_base64", [value]) => plain("encode", vec![value.clone(), text("base64pad")]),
        ("from_base64", [value]) => cast(
            plain("decode", vec![value.clone(), text("base64")]),
            datafusion::sql::sqlparser::ast::DataType::String(None),
        ),
        ("unix_timestamp", []) => plain("$unix_now", Vec::new()),
        ("unix_timestamp", _) => plain("$unix_timestamp", arguments),
        ("year" | "quarter" | "month" | "week" | "hour" | "minute" | "second", [_]) => {
            unit(&name.to_ascii_uppercase(), arguments)
        }
        // DataFusion's is to base 10.
        ("log", [_]) => plain("ln", arguments),
        ("substr" | "substring", [_, _] | [_, _, _]) => plain("$substring", arguments),
        ("dayofyear", [_]) => unit("DOY", arguments),
        ("dayofmonth", [_]) => unit("DAY", arguments),
        ("dayofweek", [_]) => unit("DOW", arguments),
        ("e", []) => plain(
            "exp",
            vec![Expr::Value(ValueWithSpan::from(Value::Number("1".into(), false)))],
        ),
        _ => return None,
    })
}

fn nested(expr: Expr) -> Expr {
    match expr {
        plain @ (Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)
        | Expr::Nested(_)
        | Expr::Function(_)) => plain,
        other => Expr::Nested(Box::new(other)),
    }
}

fn case(condition: Expr, result: Expr, otherwise: Option<Expr>) -> Expr {
    use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}

fn cast(expr: Expr, data_type: datafusion::sql::sqlparser::ast::DataType) -> Expr {
    Expr::Cast {
        kind: datafusion::sql::sqlparser::ast::CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

/// What a function of the clock is for all rows of a batch job.
pub(crate) fn pinned(name: &str, function: &Function, now_us: i64) -> Option<Expr> {
    use datafusion::sql::sqlparser::ast::{DataType, FunctionArguments, TimezoneInfo};
    let empty = match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty(),
        FunctionArguments::Subquery(_) => false,
    };
    if !empty {
        return None;
    }
    let number = |number: i64| Expr::Value(ValueWithSpan::from(Value::Number(number.to_string(), false)));
    let instant = call(Ident::new("to_timestamp_ltz"), vec![number(now_us), number(6)]);
    Some(match name {
        "now" | "current_timestamp" | "current_row_timestamp" => instant,
        "localtimestamp" => cast(instant, DataType::Timestamp(None, TimezoneInfo::None)),
        "current_date" => cast(instant, DataType::Date),
        "current_time" | "localtime" => cast(instant, DataType::Time(None, TimezoneInfo::None)),
        "unix_timestamp" => number(now_us.div_euclid(1_000_000)),
        _ => return None,
    })
}

/// `FIRST_VALUE` and `LAST_VALUE` leave NULLs out, unless the query says otherwise.
pub(crate) fn ignore_nulls(function: &mut Function) {
    use datafusion::sql::sqlparser::ast::NullTreatment;
    if function.over.is_none() {
        function.null_treatment.get_or_insert(NullTreatment::IgnoreNulls);
    }
}

/// `COUNT(DISTINCT a, b)` counts different pairs, none of which is NULL.
pub(crate) fn count_as_one(function: &mut Function) {
    use datafusion::sql::sqlparser::ast::{DuplicateTreatment, FunctionArg, FunctionArgExpr, FunctionArguments};
    let Some((_, arguments)) = call_parts(function) else {
        return;
    };
    let FunctionArguments::List(list) = &mut function.args else {
        return;
    };
    if list.duplicate_treatment != Some(DuplicateTreatment::Distinct) || arguments.len() < 2 {
        return;
    }
    let known = |argument: &Expr| Expr::IsNotNull(Box::new(nested(argument.clone())));
    let all_known = arguments.iter().map(known).reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    });
    if let Some(all_known) = all_known {
        let together = case(all_known, call(Ident::new("struct"), arguments), None);
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(together))];
    }
}

/// `LISTAGG(text)` separates by a comma.
pub(crate) fn list_separator(function: &mut Function) {
    use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArguments};
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 1
    {
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(text(","))));
    }
}
