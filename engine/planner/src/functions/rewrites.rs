//! Functions that are rewritten into other expressions while the query is a parsed tree, before types are known.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, NullTreatment, UnaryOperator, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::percentiles;
use crate::ast::{call, call_parts, text};

/// A call of a function as it was written.
struct Call<'a> {
    /// Lower-case name.
    name: &'a str,
    arguments: Vec<Expr>,
    span: Span,
    function: &'a Function,
}

impl Call<'_> {
    /// Returns a call of another function in the place of this one.
    fn to(&self, name: &str, arguments: Vec<Expr>) -> Expr {
        call(Ident::with_span(self.span, name), arguments)
    }

    /// Returns a call of an aggregate in the place of this one, with its `DISTINCT` and `FILTER`.
    fn to_aggregate(&self, name: &str, arguments: Vec<Expr>) -> Expr {
        let mut aggregate = self.to(name, arguments);
        if let Expr::Function(aggregate) = &mut aggregate {
            aggregate.filter = self.function.filter.clone();
            if let (FunctionArguments::List(list), FunctionArguments::List(written)) =
                (&mut aggregate.args, &self.function.args)
            {
                list.duplicate_treatment = written.duplicate_treatment;
            }
        }
        aggregate
    }

    /// Returns a call that extracts a unit from the argument, a time.
    fn part(&self, unit: &str) -> Option<Expr> {
        let [time] = self.arguments.as_slice() else { return None };
        Some(self.to("$part", vec![text(unit), time.clone()]))
    }
}

/// A function that is another spelling of an expression.
struct Rewrite {
    /// Lower-case names.
    names: &'static [&'static str],
    /// Returns the expression that a call stands for, or `None` if the call stays as it is.
    apply: fn(&Call<'_>) -> Option<Expr>,
}

/// Numbers of bits of the digests of `SHA2`.
const SHA2_BITS: [&str; 4] = ["224", "256", "384", "512"];

const REWRITES: &[Rewrite] = &[
    Rewrite {
        names: &["mod"],
        apply: |call| match call.arguments.as_slice() {
            [left, right] => Some(nested(binary(
                nested(left.clone()),
                BinaryOperator::Modulo,
                nested(right.clone()),
            ))),
            _ => None,
        },
    },
    Rewrite {
        names: &["if"],
        apply: |call| match call.arguments.as_slice() {
            [condition, yes, no] => Some(case(condition.clone(), yes.clone(), Some(no.clone()))),
            _ => None,
        },
    },
    // `||` is NULL where a part is, as CONCAT is in Flink.
    Rewrite {
        names: &["concat"],
        apply: |call| {
            let (first, rest) = call.arguments.split_first()?;
            let first = call.to("$text", vec![first.clone()]);
            Some(nested(rest.iter().fold(first, |left, right| {
                binary(left, BinaryOperator::StringConcat, nested(right.clone()))
            })))
        },
    },
    // NULL if any argument is, as in Flink; DataFusion's functions ignore NULLs.
    Rewrite {
        names: &["greatest", "least"],
        apply: |call| {
            let any_null = call
                .arguments
                .iter()
                .map(|argument| Expr::IsNull(Box::new(nested(argument.clone()))))
                .reduce(|left, right| binary(left, BinaryOperator::Or, right))?;
            let no_null = Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(nested(any_null)),
            };
            let function = call.to(&format!("${}", call.name), call.arguments.clone());
            Some(case(no_null, function, None))
        },
    },
    Rewrite {
        names: &["locate"],
        apply: |call| match call.arguments.as_slice() {
            [needle, text] => Some(call.to("strpos", vec![text.clone(), needle.clone()])),
            [_, _, _] => Some(call.to("$locate", call.arguments.clone())),
            _ => None,
        },
    },
    Rewrite {
        names: &["regexp", "regexp_like"],
        apply: |call| match call.arguments.as_slice() {
            [_, _] => Some(call.to("$regexp", call.arguments.clone())),
            _ => None,
        },
    },
    Rewrite {
        names: &["instr"],
        apply: |call| match call.arguments.len() {
            3 | 4 => Some(call.to("$instr", call.arguments.clone())),
            _ => None,
        },
    },
    // DataFusion's functions of these names have other encodings: base64 and hexadecimal digits.
    Rewrite {
        names: &["encode", "decode"],
        apply: |call| Some(call.to(&format!("${}", call.name), call.arguments.clone())),
    },
    Rewrite {
        names: &["sha224", "sha256", "sha384", "sha512"],
        apply: |call| match call.arguments.as_slice() {
            [_] => {
                let digest = call.to(&format!("${}", call.name), call.arguments.clone());
                Some(call.to("encode", vec![digest, text("hex")]))
            }
            _ => None,
        },
    },
    Rewrite {
        names: &["sha2"],
        apply: |call| {
            let [value, bits] = call.arguments.as_slice() else {
                return None;
            };
            let digest = |bits: &str| {
                let digest = call.to(&format!("$sha{bits}"), vec![value.clone()]);
                call.to("encode", vec![digest, text("hex")])
            };
            if let Expr::Value(ValueWithSpan {
                value: Value::Number(bits, _),
                ..
            }) = bits
            {
                return SHA2_BITS.contains(&bits.as_str()).then(|| digest(bits));
            }
            let equal = |written: &str| {
                let number = Expr::value(Value::Number(written.to_owned(), false));
                binary(nested(bits.clone()), BinaryOperator::Eq, number)
            };
            SHA2_BITS
                .iter()
                .rev()
                .fold(None, |otherwise, bits| Some(case(equal(bits), digest(bits), otherwise)))
        },
    },
    Rewrite {
        names: &["rand"],
        apply: |call| match call.arguments.as_slice() {
            [_] => Some(call.to("$rand", call.arguments.clone())),
            _ => None,
        },
    },
    Rewrite {
        names: &["rand_integer"],
        apply: |call| match call.arguments.as_slice() {
            [_, _] => Some(call.to("$rand_integer", call.arguments.clone())),
            [bound] => {
                let random = call.to("random", Vec::new());
                let product = binary(random, BinaryOperator::Multiply, nested(bound.clone()));
                Some(cast(call.to("floor", vec![product]), DataType::Int(None)))
            }
            _ => None,
        },
    },
    // DataFusion's functions of these names count the elements of nested arrays too.
    Rewrite {
        names: &["cardinality", "array_length"],
        apply: |call| match call.arguments.as_slice() {
            [_] => Some(call.to("$elements", call.arguments.clone())),
            _ => None,
        },
    },
    Rewrite {
        names: &["to_base64"],
        apply: |call| match call.arguments.as_slice() {
            [value] => Some(call.to("encode", vec![value.clone(), text("base64pad")])),
            _ => None,
        },
    },
    Rewrite {
        names: &["from_base64"],
        apply: |call| match call.arguments.as_slice() {
            [value] => {
                let decoded = call.to("decode", vec![value.clone(), text("base64")]);
                Some(cast(decoded, DataType::String(None)))
            }
            _ => None,
        },
    },
    Rewrite {
        names: &["unix_timestamp"],
        apply: |call| {
            Some(match call.arguments.as_slice() {
                [] => call.to("$unix_now", Vec::new()),
                _ => call.to("$unix_timestamp", call.arguments.clone()),
            })
        },
    },
    Rewrite {
        names: &["year", "quarter", "month", "week", "hour", "minute", "second"],
        apply: |call| call.part(&call.name.to_ascii_uppercase()),
    },
    Rewrite {
        names: &["dayofyear"],
        apply: |call| call.part("DOY"),
    },
    Rewrite {
        names: &["dayofmonth"],
        apply: |call| call.part("DAY"),
    },
    Rewrite {
        names: &["dayofweek"],
        apply: |call| call.part("DOW"),
    },
    // An array of fractions asks for a value for each. Values with a frequency have an aggregate of their own.
    Rewrite {
        names: &["percentile"],
        apply: |call| {
            let (value, fractions, frequency) = match call.arguments.as_slice() {
                [value, fractions] => (value, fractions, None),
                [value, fractions, frequency] => (value, fractions, Some(frequency)),
                _ => return None,
            };
            let percentile = |fraction: &Expr| match frequency {
                None => call.to_aggregate("percentile", vec![value.clone(), fraction.clone()]),
                Some(frequency) => {
                    let parts = vec![text("value"), value.clone(), text("frequency"), frequency.clone()];
                    let row = call.to("named_struct", parts);
                    call.to_aggregate(percentiles::NAME, vec![row, fraction.clone()])
                }
            };
            match fractions {
                Expr::Array(fractions) => {
                    let first = percentile(fractions.elem.first()?);
                    let all = call.to("make_array", fractions.elem.iter().map(percentile).collect());
                    Some(case(Expr::IsNotNull(Box::new(first)), all, None))
                }
                fraction => frequency.is_some().then(|| percentile(fraction)),
            }
        },
    },
    Rewrite {
        names: &[
            "bitmap_build_cardinality_agg",
            "bitmap_and_cardinality_agg",
            "bitmap_or_cardinality_agg",
            "bitmap_xor_cardinality_agg",
        ],
        apply: |call| {
            let bitmap = call.to_aggregate(&call.name.replace("_cardinality", ""), call.arguments.clone());
            Some(call.to("bitmap_cardinality", vec![bitmap]))
        },
    },
    // The class is not used: an object is a row with names.
    Rewrite {
        names: &["object_of"],
        apply: |call| match call.arguments.as_slice() {
            [_, parts @ ..] if is_object(&call.arguments) => Some(call.to("named_struct", parts.to_vec())),
            _ => None,
        },
    },
    Rewrite {
        names: &["e"],
        apply: |call| match call.arguments.as_slice() {
            [] => {
                let one = Expr::Value(ValueWithSpan::from(Value::Number("1".into(), false)));
                Some(call.to("exp", vec![one]))
            }
            _ => None,
        },
    },
    // With one argument the natural logarithm; DataFusion's is to base 10.
    Rewrite {
        names: &["log"],
        apply: |call| match call.arguments.as_slice() {
            [_] => Some(call.to("ln", call.arguments.clone())),
            _ => None,
        },
    },
    Rewrite {
        names: &["substr", "substring"],
        apply: |call| match call.arguments.as_slice() {
            [_, _] | [_, _, _] => Some(call.to("$substring", call.arguments.clone())),
            _ => None,
        },
    },
];

/// An aggregate whose calls are completed before they are planned.
struct Completion {
    /// Lower-case names.
    names: &'static [&'static str],
    apply: fn(&mut Function),
}

const COMPLETIONS: &[Completion] = &[
    Completion {
        names: &["first_value", "last_value", "collect"],
        apply: ignore_nulls,
    },
    Completion {
        names: &["count"],
        apply: count_as_one,
    },
    Completion {
        names: &["listagg"],
        apply: list_separator,
    },
];

/// Names of Flink's functions that are refused, with what to write instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "to_char",
        "is not Flink's: use DATE_FORMAT(timestamp, 'yyyy-MM-dd HH:mm:ss')",
    ),
    ("length", "is not Flink's: use CHAR_LENGTH(s)"),
    ("mean", "is not Flink's: use AVG(x)"),
    ("pow", "is not Flink's: use POWER(x, y)"),
    ("date_bin", "is not Flink's: use FLOOR(timestamp TO unit)"),
    ("unnest", "is a table: write FROM t CROSS JOIN UNNEST(t.a) AS e(x)"),
];

/// Returns the names of all functions that may be rewritten.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    REWRITES.iter().flat_map(|rewrite| rewrite.names).copied()
}

/// Returns the reason why a call of this lower-case name is refused, and what to write instead.
pub(crate) fn refusal(name: &str) -> Option<&'static str> {
    let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
    refused.map(|(_, instead)| *instead)
}

/// Returns the expression that a call of a function of this lower-case name stands for, or `None` if it is a call of
/// that function.
pub(crate) fn rewrite(name: &str, function: &Function, span: Span) -> Option<Expr> {
    let rewrite = REWRITES.iter().find(|rewrite| rewrite.names.contains(&name))?;
    if function.over.is_some() {
        return None;
    }
    let (_, arguments) = call_parts(function)?;
    (rewrite.apply)(&Call {
        name,
        arguments,
        span,
        function,
    })
}

/// Returns what a call of a function of this lower-case name takes, if its constant arguments are invalid.
pub(crate) fn invalid_constant(name: &str, function: &Function) -> Option<&'static str> {
    let (_, arguments) = call_parts(function).filter(|_| matches!(name, "sha2" | "object_of"))?;
    if name == "object_of" {
        return (!is_object(&arguments)).then_some(
            "takes the name of a class, and then a value for each name of a field, which is a constant: \
             OBJECT_OF('com.example.Car', 'plate', plate)",
        );
    }
    match arguments.as_slice() {
        [
            _,
            Expr::Value(ValueWithSpan {
                value: Value::Number(bits, _),
                ..
            }),
        ] if !SHA2_BITS.contains(&bits.as_str()) => Some("takes 224, 256, 384 or 512 as the number of bits"),
        _ => None,
    }
}

/// Returns true if the arguments are a class, and names of fields with their values.
fn is_object(arguments: &[Expr]) -> bool {
    let is_text = |expr: &Expr| {
        matches!(
            expr,
            Expr::Value(ValueWithSpan {
                value: Value::SingleQuotedString(_),
                ..
            })
        )
    };
    let [class, parts @ ..] = arguments else {
        return false;
    };
    is_text(class) && !parts.is_empty() && parts.len() % 2 == 0 && parts.iter().step_by(2).all(is_text)
}

/// Completes the call of an aggregate of this lower-case name with Flink's defaults.
pub(crate) fn complete(name: &str, function: &mut Function) {
    if let Some(completion) = COMPLETIONS.iter().find(|completion| completion.names.contains(&name)) {
        (completion.apply)(function);
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

/// Puts an expression in parentheses if it needs them as an operand.
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
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}

/// Returns `CAST(expr AS data_type)`.
pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

/// Makes `FIRST_VALUE`, `LAST_VALUE` and `COLLECT` ignore NULLs, unless the query says otherwise.
fn ignore_nulls(function: &mut Function) {
    if function.over.is_none() {
        function.null_treatment.get_or_insert(NullTreatment::IgnoreNulls);
    }
}

/// Makes `COUNT(DISTINCT a, b)` count different pairs without NULL.
fn count_as_one(function: &mut Function) {
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

/// Makes a comma the separator of `LISTAGG(text)`.
fn list_separator(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 1
    {
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(text(","))));
    }
}
