//! The functions of DataFusion that queries may call, with the properties that planning depends on.
//!
//! A function that is not declared here cannot be called. A test compares the declarations with DataFusion's functions.

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

use super::scalar::Fallibility;
use super::sums;

/// A scalar function of DataFusion.
pub(super) struct BuiltinScalar {
    /// DataFusion's name. Its aliases are callable too.
    pub name: &'static str,
    /// Further names, which replace those of other functions. Names that begin with `$` are for rewritten calls.
    pub aliases: &'static [&'static str],
    pub fallibility: Fallibility,
    /// True if the result depends on the equality or order of arguments, or of their elements.
    pub is_comparing: bool,
}

const fn infallible(name: &'static str) -> BuiltinScalar {
    BuiltinScalar {
        name,
        aliases: &[],
        fallibility: Fallibility::Infallible,
        is_comparing: false,
    }
}

const fn fallible(name: &'static str) -> BuiltinScalar {
    BuiltinScalar {
        name,
        aliases: &[],
        fallibility: Fallibility::Fallible,
        is_comparing: false,
    }
}

impl BuiltinScalar {
    const fn comparing(mut self) -> Self {
        self.is_comparing = true;
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

pub(super) const SCALARS: &[BuiltinScalar] = &[
    // Conditions, structs and metadata.
    fallible("arrow_cast"),
    fallible("arrow_field"),
    fallible("arrow_metadata"),
    fallible("arrow_try_cast"),
    fallible("arrow_typeof"),
    fallible("cast_to_type"),
    fallible("coalesce"),
    fallible("file_row_index"),
    infallible("get_field"),
    fallible("greatest").comparing().aliases(&["$greatest"]),
    fallible("input_file_name"),
    fallible("least").comparing().aliases(&["$least"]),
    fallible("named_struct"),
    infallible("nullif"),
    fallible("nvl").aliases(&["ifnull"]),
    fallible("nvl2"),
    fallible("struct"),
    fallible("try_cast_to_type"),
    fallible("union_extract"),
    fallible("union_tag"),
    fallible("version"),
    fallible("with_metadata"),
    // Digests and encodings.
    fallible("decode"),
    fallible("digest"),
    fallible("encode"),
    fallible("md5"),
    fallible("sha224").aliases(&["$sha224"]),
    fallible("sha256").aliases(&["$sha256"]),
    fallible("sha384").aliases(&["$sha384"]),
    fallible("sha512").aliases(&["$sha512"]),
    // Times.
    fallible("date_bin"),
    fallible("date_part"),
    fallible("date_trunc"),
    fallible("make_date"),
    fallible("make_time"),
    fallible("to_char"),
    fallible("to_local_time"),
    fallible("to_time"),
    fallible("to_timestamp_micros"),
    fallible("to_timestamp_millis"),
    fallible("to_timestamp_nanos"),
    fallible("to_timestamp_seconds"),
    fallible("to_unixtime"),
    // Numbers.
    fallible("abs"),
    fallible("acos"),
    fallible("acosh"),
    fallible("asin"),
    fallible("asinh"),
    fallible("atan"),
    fallible("atan2"),
    fallible("atanh"),
    fallible("cbrt"),
    fallible("cos"),
    fallible("cosh"),
    fallible("cot"),
    fallible("degrees"),
    fallible("exp"),
    fallible("factorial"),
    fallible("gcd"),
    fallible("isnan"),
    fallible("iszero"),
    fallible("lcm"),
    fallible("ln"),
    fallible("log"),
    fallible("log10"),
    fallible("log2"),
    fallible("nanvl"),
    fallible("pi"),
    fallible("radians"),
    fallible("random").aliases(&["rand"]),
    fallible("round"),
    fallible("sin"),
    fallible("sinh"),
    fallible("tan"),
    fallible("tanh"),
    // Strings.
    fallible("ascii"),
    fallible("bit_length"),
    infallible("btrim"),
    infallible("character_length").aliases(&["char_length"]),
    fallible("chr"),
    fallible("concat"),
    fallible("concat_ws"),
    infallible("contains"),
    infallible("ends_with").aliases(&["endswith"]),
    fallible("find_in_set"),
    fallible("initcap"),
    fallible("levenshtein"),
    infallible("lower"),
    infallible("ltrim"),
    fallible("octet_length"),
    fallible("regexp_count"),
    fallible("regexp_instr"),
    fallible("regexp_like"),
    fallible("regexp_match"),
    fallible("repeat"),
    fallible("replace"),
    fallible("reverse"),
    infallible("rtrim"),
    fallible("split_part"),
    infallible("starts_with").aliases(&["startswith"]),
    infallible("strpos"),
    fallible("substr"),
    fallible("substr_index"),
    fallible("to_hex"),
    fallible("translate"),
    infallible("upper"),
    fallible("uuid"),
    // Arrays and maps.
    fallible("array_add"),
    fallible("array_any_value"),
    fallible("array_avg"),
    fallible("array_compact"),
    fallible("array_dims"),
    fallible("array_distance"),
    fallible("array_distinct").comparing(),
    infallible("array_element"),
    fallible("array_except").comparing(),
    fallible("array_has_all").comparing(),
    fallible("array_has_any").comparing(),
    fallible("array_intersect").comparing(),
    fallible("array_length"),
    fallible("array_max").comparing(),
    fallible("array_min").comparing(),
    fallible("array_ndims"),
    fallible("array_normalize"),
    fallible("array_pop_back"),
    fallible("array_pop_front"),
    fallible("array_positions").comparing(),
    fallible("array_product"),
    fallible("array_remove_all").comparing(),
    fallible("array_remove_n").comparing(),
    fallible("array_repeat"),
    fallible("array_replace").comparing(),
    fallible("array_replace_all").comparing(),
    fallible("array_replace_n").comparing(),
    fallible("array_resize"),
    fallible("array_reverse"),
    fallible("array_scale"),
    fallible("array_subtract"),
    fallible("array_sum"),
    fallible("array_union").comparing(),
    fallible("arrays_zip"),
    fallible("cardinality"),
    fallible("cosine_distance"),
    fallible("empty"),
    fallible("flatten"),
    fallible("generate_series"),
    fallible("inner_product"),
    fallible("make_array"),
    fallible("map"),
    fallible("map_entries"),
    fallible("map_extract"),
    fallible("map_keys"),
    fallible("map_values"),
    fallible("range"),
    fallible("string_to_array"),
];

/// Scalar functions of DataFusion that have the name of one of our own. They are callable by their other names only.
pub(super) const REPLACED_SCALARS: &[&str] = &[
    "array_append",
    "array_concat",
    "array_has",
    "array_position",
    "array_prepend",
    "array_remove",
    "array_slice",
    "array_sort",
    "array_to_string",
    "ceil",
    "current_date",
    "current_time",
    "floor",
    "from_unixtime",
    "left",
    "lpad",
    "now",
    "overlay",
    "power",
    "regexp_replace",
    "right",
    "rpad",
    "signum",
    "sqrt",
    "to_date",
    "to_timestamp",
    "trunc",
];

/// Size of the partial state of an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartialState {
    /// A few numbers, whatever the aggregate has seen.
    Constant,
    /// Grows with the input.
    Growing,
}

/// An aggregate.
pub(super) struct BuiltinAggregate {
    /// DataFusion's name. Its aliases are callable too.
    pub name: &'static str,
    /// Further names, which replace those of other aggregates.
    pub aliases: &'static [&'static str],
    pub partial_state: PartialState,
    /// True if the result depends on the equality or order of the values.
    pub is_comparing: bool,
    /// Our own implementation, where DataFusion's differs from Flink's.
    pub replacement: Option<fn() -> Arc<AggregateUDF>>,
}

const fn constant_state(name: &'static str) -> BuiltinAggregate {
    BuiltinAggregate {
        name,
        aliases: &[],
        partial_state: PartialState::Constant,
        is_comparing: false,
        replacement: None,
    }
}

const fn growing_state(name: &'static str) -> BuiltinAggregate {
    BuiltinAggregate {
        name,
        aliases: &[],
        partial_state: PartialState::Growing,
        is_comparing: false,
        replacement: None,
    }
}

impl BuiltinAggregate {
    const fn comparing(mut self) -> Self {
        self.is_comparing = true;
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn replaced_by(mut self, replacement: fn() -> Arc<AggregateUDF>) -> Self {
        self.replacement = Some(replacement);
        self
    }
}

pub(super) const AGGREGATES: &[BuiltinAggregate] = &[
    growing_state("any_value"),
    growing_state("approx_distinct")
        .comparing()
        .aliases(&["approx_count_distinct"]),
    growing_state("approx_median").comparing(),
    growing_state("approx_percentile_cont").comparing(),
    growing_state("approx_percentile_cont_with_weight"),
    growing_state("array_agg").aliases(&["collect"]),
    constant_state("avg").replaced_by(sums::avg),
    constant_state("bit_and"),
    constant_state("bit_or"),
    constant_state("bit_xor"),
    constant_state("bool_and"),
    constant_state("bool_or"),
    constant_state("corr"),
    constant_state("count"),
    constant_state("covar_pop"),
    constant_state("covar_samp"),
    growing_state("first_value"),
    growing_state("grouping"),
    growing_state("last_value"),
    constant_state("max").comparing(),
    growing_state("median").comparing(),
    constant_state("min").comparing(),
    growing_state("nth_value"),
    growing_state("percentile_cont").comparing(),
    constant_state("regr_avgx"),
    constant_state("regr_avgy"),
    constant_state("regr_count"),
    constant_state("regr_intercept"),
    constant_state("regr_r2"),
    constant_state("regr_slope"),
    constant_state("regr_sxx"),
    constant_state("regr_sxy"),
    constant_state("regr_syy"),
    constant_state("stddev").aliases(&["stddev_samp"]),
    constant_state("stddev_pop"),
    growing_state("string_agg").aliases(&["listagg"]),
    constant_state("sum").replaced_by(sums::sum),
    constant_state("var").aliases(&["variance"]),
    constant_state("var_pop"),
];

/// Window functions of DataFusion.
pub(super) const WINDOWS: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];
