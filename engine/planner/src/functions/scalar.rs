//! Scalar functions of our own: one [`Scalar`] declares everything that planning and evaluation need of a function.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, new_empty_array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// Possibility of an error when a function is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallibility {
    /// The function has a value for every row. Invalid constant arguments are refused before any row is computed.
    Infallible,
    /// The function fails for some rows, or is not known not to.
    Fallible,
}

/// Notation of calls in the names of columns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Notation {
    /// `name(a, b)`
    Call,
    /// `a + b`, for this symbol.
    Operator(&'static str),
    /// The first argument alone, as for casts.
    Argument,
}

/// Returns the type of a result from the types of the arguments and the values of those that are constant.
type ReturnsFor = fn(&[DataType], &[Option<&ScalarValue>]) -> DataType;

/// Use of the session's time zone by a function that computes with times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalTime {
    /// The function does not depend on it, or reads it itself.
    Unused,
    /// `TIMESTAMP_LTZ` arguments, and a result of that type, are local times.
    Arguments,
    /// `TIMESTAMP_LTZ` arguments are local times if another argument is one.
    CommonArguments,
}

/// The declaration of a function: names, types, properties and body.
#[derive(Clone)]
pub(crate) struct Scalar {
    /// Lower-case name. Names that begin with `$` cannot be called by queries.
    name: &'static str,
    /// Further names, which replace those of other functions.
    aliases: &'static [&'static str],
    fallibility: Fallibility,
    is_comparing: bool,
    local_time: LocalTime,
    signature: Signature,
    notation: Notation,
    /// Returns the types that the arguments are cast to, or an error that says why they are refused.
    accepts: fn(&[DataType]) -> Result<Vec<DataType>>,
    /// Returns the type of the result.
    returns: fn(&[DataType]) -> DataType,
    /// Returns the type of the result if it depends on the values of constant arguments.
    returns_for: Option<ReturnsFor>,
    body: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
    /// Checks constant arguments while planning, in addition to the body.
    check: fn(&ScalarFunctionArgs) -> Result<()>,
}

impl Scalar {
    /// Declares an immutable function that has a value for every row.
    pub(super) fn infallible(
        name: &'static str,
        accepts: fn(&[DataType]) -> Result<Vec<DataType>>,
        returns: fn(&[DataType]) -> DataType,
        body: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            fallibility: Fallibility::Infallible,
            is_comparing: false,
            local_time: LocalTime::Unused,
            signature: Signature::user_defined(Volatility::Immutable),
            notation: Notation::Call,
            accepts,
            returns,
            returns_for: None,
            body,
            check: |_| Ok(()),
        }
    }

    /// Declares an immutable function that may fail for a row.
    pub(super) fn fallible(
        name: &'static str,
        accepts: fn(&[DataType]) -> Result<Vec<DataType>>,
        returns: fn(&[DataType]) -> DataType,
        body: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
    ) -> Self {
        Self {
            fallibility: Fallibility::Fallible,
            ..Self::infallible(name, accepts, returns, body)
        }
    }

    /// Makes the function volatile: each evaluation may have another value.
    pub(super) fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }

    /// Declares that the result depends on the equality or order of arguments, or of their elements.
    pub(super) fn comparing(mut self) -> Self {
        self.is_comparing = true;
        self
    }

    /// Sets a check of constant arguments while planning. The body is not stricter with constants, which may be results
    /// of other expressions.
    pub(super) fn checked_by(mut self, check: fn(&ScalarFunctionArgs) -> Result<()>) -> Self {
        self.check = check;
        self
    }

    /// Sets the type of a result that depends on the values of constant arguments.
    pub(super) fn returns_for(mut self, returns: ReturnsFor) -> Self {
        self.returns_for = Some(returns);
        self
    }

    /// Declares that `TIMESTAMP_LTZ` arguments are read as local times of the session, as the result is.
    pub(super) fn in_local_time(mut self) -> Self {
        self.local_time = LocalTime::Arguments;
        self
    }

    /// Declares that times are compared: a `TIMESTAMP_LTZ` is read as a local time if another argument is one.
    pub(super) fn in_common_time(mut self) -> Self {
        self.local_time = LocalTime::CommonArguments;
        self
    }

    /// Adds further names.
    pub(super) fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Sets the notation of calls in the names of columns.
    pub(super) fn notation(mut self, notation: Notation) -> Self {
        self.notation = notation;
        self
    }

    pub(super) fn declared_aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    pub(super) fn is_comparing(&self) -> bool {
        self.is_comparing
    }

    pub(super) fn local_time(&self) -> LocalTime {
        self.local_time
    }

    pub(super) fn fallibility(&self) -> Fallibility {
        self.fallibility
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar").field("name", &self.name).finish()
    }
}

// Names are unique, so they identify functions.
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
        Ok(match (self.notation, names.as_slice()) {
            (Notation::Operator(symbol), [left, right, ..]) => format!("{left} {symbol} {right}"),
            (Notation::Argument, [value, ..]) => value.clone(),
            (_, names) => format!("{}({})", self.name, names.join(",")),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok((self.returns)(arguments))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let fields = arguments.arg_fields.iter();
        let types: Vec<DataType> = fields.map(|field| field.data_type().clone()).collect();
        let data_type = match self.returns_for {
            Some(returns_for) => returns_for(&types, arguments.scalar_arguments),
            None => self.return_type(&types)?,
        };
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        (self.accepts)(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&arguments)
    }
}

/// Evaluates a call of one of our own functions without rows, to find invalid constant strings while planning: regular
/// expressions, date patterns, JSON paths.
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
    (function.check)(&arguments)?;
    (function.body)(&arguments).map(drop)
}

/// An argument of type STRING: one value per row, or one for all.
pub(super) enum Texts<'a> {
    Rows(&'a StringArray),
    Constant(Option<&'a str>),
}

impl<'a> Texts<'a> {
    pub(super) fn of(arguments: &'a ScalarFunctionArgs, index: usize) -> Result<Self> {
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

    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Rows(rows) => (!rows.is_null(row)).then(|| rows.value(row)),
            Self::Constant(value) => *value,
        }
    }

    /// Returns the value if it is the same for all rows and not NULL.
    pub(super) fn constant(&self) -> Option<&'a str> {
        match self {
            Self::Rows(_) => None,
            Self::Constant(value) => *value,
        }
    }
}

/// Returns an argument as an array with one value per row.
pub(super) fn array(arguments: &ScalarFunctionArgs, index: usize) -> Result<ArrayRef> {
    arguments.args[index].to_array(arguments.number_rows)
}

/// Accepts `N` arguments of type STRING.
pub(super) fn strings<const N: usize>(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() == N {
        Ok(vec![DataType::Utf8; N])
    } else {
        plan_err!("takes {N} arguments, not {}", given.len())
    }
}

pub(super) fn utf8(_: &[DataType]) -> DataType {
    DataType::Utf8
}

pub(super) fn boolean(_: &[DataType]) -> DataType {
    DataType::Boolean
}

pub(super) fn bigint(_: &[DataType]) -> DataType {
    DataType::Int64
}

/// Returns an array as the result of a function.
pub(super) fn array_result(array: impl Array + Any) -> Result<ColumnarValue> {
    Ok(ColumnarValue::Array(Arc::new(array)))
}
