//! The functions of DataFusion that queries may call, with the properties that planning depends on.
//!
//! A function that is not declared here cannot be called. A test compares the declarations with DataFusion's functions.

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

use super::scalar::Fallibility;
use super::{bitmap_aggregates, percentiles, sums};

/// A scalar function of DataFusion.
pub(super) struct BuiltinScalar {
    /// DataFusion's name.
    pub name: &'static str,
    /// Further names, which replace those of other functions. DataFusion's are not callable. Names that begin with `$`
    /// are for rewritten calls.
    pub aliases: &'static [&'static str],
    pub fallibility: Fallibility,
    /// True if the result depends on the equality or order of arguments, or of their elements.
    pub is_comparing: bool,
    /// True if queries cannot call the function by DataFusion's names, because Flink has no such function, or one that
    /// differs. Rewritten calls and operators use it.
    pub is_internal: bool,
    /// True if a FLOAT argument is computed as a DOUBLE.
    pub is_in_double: bool,
}

const fn infallible(name: &'static str) -> BuiltinScalar {
    BuiltinScalar {
        name,
        aliases: &[],
        fallibility: Fallibility::Infallible,
        is_comparing: false,
        is_internal: false,
        is_in_double: false,
    }
}

const fn fallible(name: &'static str) -> BuiltinScalar {
    BuiltinScalar {
        name,
        aliases: &[],
        fallibility: Fallibility::Fallible,
        is_comparing: false,
        is_internal: false,
        is_in_double: false,
    }
}

impl BuiltinScalar {
    const fn comparing(mut self) -> Self {
        self.is_comparing = true;
        self
    }

    const fn in_double(mut self) -> Self {
        self.is_in_double = true;
        self
    }

    const fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

pub(super) const SCALARS: &[BuiltinScalar] = &[
    // Conditions, structs and metadata.
    fallible("arrow_cast").internal(),
    fallible("arrow_field").internal(),
    fallible("arrow_metadata").internal(),
    fallible("arrow_try_cast").internal(),
    fallible("arrow_typeof").internal(),
    fallible("cast_to_type").internal(),
    fallible("coalesce"),
    fallible("file_row_index").internal(),
    infallible("get_field").internal(),
    fallible("greatest").comparing().aliases(&["$greatest"]),
    fallible("input_file_name").internal(),
    fallible("least").comparing().aliases(&["$least"]),
    fallible("named_struct").internal(),
    infallible("nullif"),
    fallible("nvl").aliases(&["ifnull"]).internal(),
    fallible("nvl2").internal(),
    fallible("struct").aliases(&["row"]).internal(),
    fallible("try_cast_to_type").internal(),
    fallible("union_extract").internal(),
    fallible("union_tag").internal(),
    fallible("version").internal(),
    fallible("with_metadata").internal(),
    // Digests and encodings.
    fallible("decode").internal(),
    fallible("digest").internal(),
    fallible("encode").internal(),
    fallible("md5"),
    fallible("sha224").aliases(&["$sha224"]),
    fallible("sha256").aliases(&["$sha256"]),
    fallible("sha384").aliases(&["$sha384"]),
    fallible("sha512").aliases(&["$sha512"]),
    // Times.
    fallible("date_bin").internal(),
    fallible("date_part").internal(),
    fallible("date_trunc").internal(),
    fallible("make_date").internal(),
    fallible("make_time").internal(),
    fallible("to_char").internal(),
    fallible("to_local_time").internal(),
    fallible("to_time").internal(),
    fallible("to_timestamp_micros").internal(),
    fallible("to_timestamp_millis").internal(),
    fallible("to_timestamp_nanos").internal(),
    fallible("to_timestamp_seconds").internal(),
    fallible("to_unixtime").internal(),
    // Numbers.
    fallible("acos").in_double(),
    fallible("acosh").internal(),
    fallible("asin").in_double(),
    fallible("asinh").internal(),
    fallible("atan").in_double(),
    fallible("atan2").in_double(),
    fallible("atanh").internal(),
    fallible("cbrt").internal(),
    fallible("cos").in_double(),
    fallible("cosh").in_double(),
    fallible("cot").in_double(),
    fallible("degrees").in_double(),
    fallible("exp").in_double(),
    fallible("factorial").internal(),
    fallible("gcd").internal(),
    fallible("isnan").internal(),
    fallible("iszero").internal(),
    fallible("lcm").internal(),
    fallible("ln").in_double(),
    fallible("log").in_double(),
    fallible("log10").in_double(),
    fallible("log2").in_double(),
    fallible("nanvl").internal(),
    fallible("pi"),
    fallible("radians").in_double(),
    fallible("random").aliases(&["rand"]).internal(),
    fallible("sin").in_double(),
    fallible("sinh").in_double(),
    fallible("tan").in_double(),
    fallible("tanh").in_double(),
    // Strings.
    fallible("ascii"),
    fallible("bit_length").internal(),
    infallible("btrim"),
    infallible("character_length").aliases(&["char_length"]),
    fallible("concat"),
    fallible("concat_ws"),
    infallible("contains").internal(),
    infallible("ends_with").internal(),
    fallible("find_in_set").internal(),
    fallible("levenshtein").internal(),
    infallible("lower"),
    infallible("ltrim"),
    fallible("octet_length").internal(),
    fallible("regexp_like"),
    fallible("regexp_match").internal(),
    fallible("repeat"),
    fallible("replace"),
    fallible("reverse"),
    infallible("rtrim"),
    fallible("split_part").internal(),
    infallible("starts_with").internal(),
    infallible("strpos").aliases(&["instr", "position"]).internal(),
    fallible("substr"),
    fallible("substr_index").internal(),
    fallible("to_hex").internal(),
    infallible("upper"),
    fallible("uuid"),
    // Arrays and maps.
    fallible("array_add").internal(),
    fallible("array_any_value").internal(),
    fallible("array_avg").internal(),
    fallible("array_compact").internal(),
    fallible("array_dims").internal(),
    fallible("array_distance").internal(),
    fallible("array_distinct").comparing(),
    infallible("array_element").internal(),
    fallible("array_except").comparing(),
    fallible("array_has_all").comparing().internal(),
    fallible("array_has_any").comparing().internal(),
    fallible("array_intersect").comparing(),
    fallible("array_length"),
    fallible("array_max").comparing(),
    fallible("array_min").comparing(),
    fallible("array_ndims").internal(),
    fallible("array_normalize").internal(),
    fallible("array_pop_back").internal(),
    fallible("array_pop_front").internal(),
    fallible("array_positions").comparing().internal(),
    fallible("array_product").internal(),
    fallible("array_remove_all").comparing().internal(),
    fallible("array_remove_n").comparing().internal(),
    fallible("array_repeat").internal(),
    fallible("array_replace").comparing().internal(),
    fallible("array_replace_all").comparing().internal(),
    fallible("array_replace_n").comparing().internal(),
    fallible("array_resize").internal(),
    fallible("array_reverse"),
    fallible("array_scale").internal(),
    fallible("array_subtract").internal(),
    fallible("array_sum").internal(),
    fallible("array_union").comparing(),
    fallible("arrays_zip").internal(),
    fallible("cardinality"),
    fallible("cosine_distance").internal(),
    fallible("empty"),
    fallible("flatten").internal(),
    fallible("generate_series").internal(),
    fallible("inner_product").internal(),
    fallible("make_array").internal(),
    fallible("map"),
    fallible("map_entries"),
    fallible("map_extract").internal(),
    fallible("map_keys"),
    fallible("map_values"),
    fallible("range").internal(),
    fallible("string_to_array").internal(),
];

/// Scalar functions of DataFusion that have the name of one of our own. Only rewritten calls use their other names.
pub(super) const REPLACED_SCALARS: &[&str] = &[
    "abs",
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
    "chr",
    "current_date",
    "current_time",
    "floor",
    "from_unixtime",
    "initcap",
    "left",
    "lpad",
    "now",
    "overlay",
    "power",
    "regexp_count",
    "regexp_instr",
    "regexp_replace",
    "right",
    "round",
    "rpad",
    "signum",
    "sqrt",
    "to_date",
    "to_timestamp",
    "translate",
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
    /// DataFusion's name, or that of our own.
    pub name: &'static str,
    /// Further names, which replace those of other aggregates. DataFusion's are not callable.
    pub aliases: &'static [&'static str],
    pub partial_state: PartialState,
    /// True if the result depends on the equality or order of the values.
    pub is_comparing: bool,
    /// True if values can be taken back, as those of rows that are updated or deleted.
    pub is_retractable: bool,
    /// Our own implementation, where DataFusion has none or one that differs from Flink's.
    pub replacement: Option<fn() -> Arc<AggregateUDF>>,
}

const fn constant_state(name: &'static str) -> BuiltinAggregate {
    BuiltinAggregate {
        name,
        aliases: &[],
        partial_state: PartialState::Constant,
        is_comparing: false,
        is_retractable: false,
        replacement: None,
    }
}

const fn growing_state(name: &'static str) -> BuiltinAggregate {
    BuiltinAggregate {
        name,
        aliases: &[],
        partial_state: PartialState::Growing,
        is_comparing: false,
        is_retractable: false,
        replacement: None,
    }
}

impl BuiltinAggregate {
    const fn comparing(mut self) -> Self {
        self.is_comparing = true;
        self
    }

    const fn retractable(mut self) -> Self {
        self.is_retractable = true;
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
    growing_state("array_agg").aliases(&["collect"]).retractable(),
    constant_state("avg").retractable().replaced_by(sums::avg),
    constant_state("bit_and"),
    constant_state("bit_or"),
    constant_state("bit_xor"),
    constant_state("bool_and").retractable(),
    constant_state("bool_or").retractable(),
    constant_state("corr"),
    constant_state("count").retractable(),
    constant_state("covar_pop"),
    constant_state("covar_samp"),
    growing_state("first_value").retractable(),
    growing_state("grouping").aliases(&["grouping_id"]),
    growing_state("last_value").retractable(),
    constant_state("max").comparing().retractable(),
    growing_state("median").comparing().retractable(),
    constant_state("min").comparing().retractable(),
    growing_state("nth_value"),
    growing_state("percentile_cont")
        .comparing()
        .retractable()
        .aliases(&["percentile"]),
    constant_state("regr_avgx"),
    constant_state("regr_avgy"),
    constant_state("regr_count"),
    constant_state("regr_intercept"),
    constant_state("regr_r2"),
    constant_state("regr_slope"),
    constant_state("regr_sxx"),
    constant_state("regr_sxy"),
    constant_state("regr_syy"),
    constant_state("stddev").aliases(&["stddev_samp"]).retractable(),
    constant_state("stddev_pop").retractable(),
    growing_state("string_agg").aliases(&["listagg"]).retractable(),
    constant_state("sum").retractable().replaced_by(sums::sum),
    constant_state("var").aliases(&["variance", "var_samp"]).retractable(),
    constant_state("var_pop").retractable(),
];

/// Aggregates of our own. Names that begin with `$` are for rewritten calls.
pub(super) const OWN_AGGREGATES: &[BuiltinAggregate] = &[
    growing_state(percentiles::NAME)
        .comparing()
        .retractable()
        .replaced_by(percentiles::weighted),
    growing_state("bitmap_and_agg")
        .retractable()
        .replaced_by(bitmap_aggregates::and),
    growing_state("bitmap_build_agg")
        .retractable()
        .replaced_by(bitmap_aggregates::build),
    growing_state("bitmap_or_agg")
        .retractable()
        .replaced_by(bitmap_aggregates::or),
    growing_state("bitmap_xor_agg")
        .retractable()
        .replaced_by(bitmap_aggregates::xor),
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
