//! The functions queries may call, under Flink's names.
//!
//! Three kinds: those DataFusion has with the same meaning (found under its names), those that are another spelling
//! of an expression ([`rewrites`]), and our own ([`text`], [`time`], [`json`], [`clock`]). Each is listed in
//! `docs/sql.md`.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, new_empty_array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, WindowUDF,
};

mod civil;
mod clock;
mod comparable;
mod decimals;
mod json;
mod numbers;
mod pattern;
mod rewrites;
mod sums;
mod text;
mod time;

pub(crate) use comparable::NAME as COMPARABLE;
pub(crate) use decimals::{as_decimal, result_digits};
pub(crate) use rewrites::{count_as_one, ignore_nulls, list_separator, pinned, rewrite};
pub(crate) use sums::sum;

/// Everything callable, by lower-case name.
pub(crate) struct Functions {
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    windows: BTreeMap<String, Arc<WindowUDF>>,
}

/// Returns true for the processing-time attribute, `PROCTIME()`. A CAST of it is a value like others, as in Flink.
pub(crate) fn is_proctime(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.name() == clock::PROCTIME,
        Expr::Alias(alias) => is_proctime(&alias.expr),
        _ => false,
    }
}

/// `CAST(x AS STRING)` in Flink's form.
pub(crate) fn to_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::to_text())
}

/// `a / b` of decimals, and perhaps a NULL of the type that the quotient is to have.
pub(crate) fn quotient() -> ScalarUDF {
    ScalarUDF::new_from_impl(decimals::quotient())
}

/// An operator of decimals that checks the digits of its result.
pub(crate) fn decimal_operator(operator: Operator) -> Option<ScalarUDF> {
    decimals::of(operator).map(ScalarUDF::new_from_impl)
}

/// The function that [normalizes](millstream_graph::float_equality) floats before they are compared.
pub(crate) fn as_comparable() -> ScalarUDF {
    ScalarUDF::new_from_impl(comparable::function())
}

impl Functions {
    /// They are the same for every pipeline: made once.
    pub(crate) fn all() -> &'static Self {
        static ALL: LazyLock<Functions> = LazyLock::new(Functions::new);
        &ALL
    }

    fn new() -> Self {
        let mut scalars = BTreeMap::new();
        let own = [
            clock::all(),
            text::all(),
            pattern::all(),
            time::all(),
            json::all(),
            numbers::all(),
            decimals::all(),
            vec![comparable::function()],
        ]
        .concat();
        let own = own
            .into_iter()
            .map(|function| Arc::new(ScalarUDF::new_from_impl(function)));
        for function in SessionStateDefaults::default_scalar_functions().into_iter().chain(own) {
            for alias in function.aliases() {
                scalars.insert(alias.to_ascii_lowercase(), function.clone());
            }
            scalars.insert(function.name().to_ascii_lowercase(), function);
        }
        // Functions whose plain name is taken by a form that calls them.
        for name in ["greatest", "least", "sha224", "sha256", "sha384", "sha512"] {
            if let Some(function) = scalars.get(name).cloned() {
                scalars.insert(format!("${name}"), function);
            }
        }
        for (flink, other) in rewrites::ALIASES {
            if let Some(function) = scalars.get(*other).cloned() {
                scalars.insert((*flink).to_owned(), function);
            }
        }
        let mut aggregates = BTreeMap::new();
        let own = [sums::sum(), sums::avg()];
        for function in SessionStateDefaults::default_aggregate_functions()
            .into_iter()
            .chain(own)
        {
            for alias in function.aliases() {
                aggregates.insert(alias.to_ascii_lowercase(), function.clone());
            }
            aggregates.insert(function.name().to_ascii_lowercase(), function);
        }
        for (flink, other) in rewrites::AGGREGATE_ALIASES {
            if let Some(function) = aggregates.get(*other).cloned() {
                aggregates.insert((*flink).to_owned(), function);
            }
        }
        let windows = SessionStateDefaults::default_window_functions()
            .into_iter()
            .map(|function| (function.name().to_ascii_lowercase(), function))
            .collect();
        Self {
            scalars,
            aggregates,
            windows,
        }
    }

    pub(crate) fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(&name.to_ascii_lowercase()).cloned()
    }

    pub(crate) fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(&name.to_ascii_lowercase()).cloned()
    }

    pub(crate) fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Whether a lower-case name can be called, directly or as another spelling.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.scalars.contains_key(name)
            || self.aggregates.contains_key(name)
            || self.windows.contains_key(name)
            || rewrites::is_rewritten(name)
            || matches!(name, "grouping" | "struct" | "row" | "array" | "map" | "unnest")
    }

    /// Why a name of Flink's cannot be called, and what to write instead.
    pub(crate) fn refused(name: &str) -> Option<&'static str> {
        rewrites::REFUSED
            .iter()
            .find(|(refused, _)| *refused == name)
            .map(|(_, instead)| *instead)
    }

    /// Names for suggestions.
    pub(crate) fn public_names(&self) -> impl Iterator<Item = &str> + '_ {
        self.scalars
            .keys()
            .chain(self.aggregates.keys())
            .chain(self.windows.keys())
            .map(String::as_str)
            .chain(rewrites::names().map(|name| -> &str { name }))
            .filter(|name| !name.starts_with('$'))
    }

    pub(crate) fn scalar_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    pub(crate) fn aggregate_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    pub(crate) fn window_names(&self) -> Vec<String> {
        self.windows.keys().cloned().collect()
    }
}

/// Calls one of our own functions without rows, so that it says now what is wrong with texts that are the same for all
/// rows: a regular expression, a pattern of a date, a path into JSON.
pub(crate) fn check_constants(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let Some(function) = call.func.inner().downcast_ref::<Scalar>() else {
        return Ok(());
    };
    let is_constant = |argument: &Expr| matches!(argument, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
    if function.signature.volatility == Volatility::Volatile || !call.args.iter().any(is_constant) {
        return Ok(());
    }
    let mut args = Vec::with_capacity(call.args.len());
    let mut arg_fields = Vec::with_capacity(call.args.len());
    for argument in &call.args {
        let data_type = argument.get_type(schema)?;
        args.push(match argument {
            Expr::Literal(value, _) => ColumnarValue::Scalar(value.clone()),
            _ => ColumnarValue::Array(new_empty_array(&data_type)),
        });
        arg_fields.push(Arc::new(Field::new("", data_type, true)));
    }
    let types: Vec<DataType> = arg_fields.iter().map(|field| field.data_type().clone()).collect();
    let arguments = ScalarFunctionArgs {
        args,
        arg_fields,
        number_rows: 0,
        return_field: Arc::new(Field::new("", (function.returns)(&types), true)),
        config_options: Arc::default(),
    };
    (function.body)(&arguments).map(drop)
}

/// One of our own functions: plain functions for its types and its body.
#[derive(Clone)]
pub(crate) struct Scalar {
    name: &'static str,
    signature: Signature,
    /// What the arguments are cast to, or why they cannot be.
    accepts: fn(&[DataType]) -> Result<Vec<DataType>>,
    returns: fn(&[DataType]) -> DataType,
    body: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
}

impl Scalar {
    fn new(
        name: &'static str,
        accepts: fn(&[DataType]) -> Result<Vec<DataType>>,
        returns: fn(&[DataType]) -> DataType,
        body: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
    ) -> Self {
        Self {
            name,
            signature: Signature::user_defined(Volatility::Immutable),
            accepts,
            returns,
            body,
        }
    }

    fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar").field("name", &self.name).finish()
    }
}

// A function is its name: there is one of each.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names: Vec<String> = arguments
            .iter()
            .map(|argument| argument.schema_name().to_string())
            .collect();
        let symbol = decimals::SYMBOLS.iter().find(|(name, _)| *name == self.name);
        Ok(match (self.name, names.as_slice()) {
            (_, [left, right, ..]) if let Some((_, symbol)) = symbol => format!("{left} {symbol} {right}"),
            (comparable::NAME, [value]) => value.clone(),
            (name, names) => format!("{name}({})", names.join(",")),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok((self.returns)(arguments))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        (self.accepts)(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&arguments)
    }
}

/// An argument of type STRING: one value per row, or one for all.
enum Texts<'a> {
    Rows(&'a StringArray),
    Constant(Option<&'a str>),
}

impl<'a> Texts<'a> {
    fn of(arguments: &'a ScalarFunctionArgs, index: usize) -> Result<Self> {
        match &arguments.args[index] {
            ColumnarValue::Array(array) => match array.as_string_opt::<i32>() {
                Some(rows) => Ok(Self::Rows(rows)),
                None => plan_err!("argument {} must be a STRING", index + 1),
            },
            ColumnarValue::Scalar(ScalarValue::Utf8(value)) => Ok(Self::Constant(value.as_deref())),
            ColumnarValue::Scalar(value) if value.is_null() => Ok(Self::Constant(None)),
            ColumnarValue::Scalar(_) => plan_err!("argument {} must be a STRING", index + 1),
        }
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Rows(rows) => (!rows.is_null(row)).then(|| rows.value(row)),
            Self::Constant(value) => *value,
        }
    }

    /// The value, if it is the same for all rows.
    fn constant(&self) -> Option<&'a str> {
        match self {
            Self::Rows(_) => None,
            Self::Constant(value) => *value,
        }
    }
}

/// An argument of a primitive type, as an array of all rows.
fn array(arguments: &ScalarFunctionArgs, index: usize) -> Result<ArrayRef> {
    arguments.args[index].to_array(arguments.number_rows)
}

/// `n` arguments of type STRING.
fn strings<const N: usize>(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() == N {
        Ok(vec![DataType::Utf8; N])
    } else {
        plan_err!("takes {N} arguments, not {}", given.len())
    }
}

fn utf8(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn boolean(_: &[DataType]) -> DataType {
    DataType::Boolean
}

fn bigint(_: &[DataType]) -> DataType {
    DataType::Int64
}

fn finished(array: impl Array + Any) -> Result<ColumnarValue> {
    Ok(ColumnarValue::Array(Arc::new(array)))
}

#[cfg(test)]
mod tests;
