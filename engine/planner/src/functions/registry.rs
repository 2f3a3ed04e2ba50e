//! The registry of everything that queries can call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::builtin::{self, PartialState};
use super::scalar::{Fallibility, LocalTime, Scalar};
use super::{
    arrays, as_of, bitmaps, casts, clock, comparable, decimals, encodings, format, json, maps, multisets, numbers,
    objects, pattern, raise, random, rewrites, rounding, strings, text, time, types, value_text,
};

/// Names that the SQL planner knows without a function.
const SYNTAX: &[&str] = &[
    "grouping",
    "struct",
    "row",
    "array",
    "map",
    "unnest",
    "json_object",
    "json_array",
    "json_objectagg",
    "json_arrayagg",
];

/// Properties of a scalar function that planning depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScalarProperties {
    pub fallibility: Fallibility,
    /// True if the result depends on the equality or order of arguments, or of their elements.
    pub is_comparing: bool,
    /// True if a FLOAT argument is computed as a DOUBLE.
    pub is_in_double: bool,
    pub local_time: LocalTime,
}

/// Properties of an aggregate that planning depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AggregateProperties {
    pub partial_state: PartialState,
    /// True if the result depends on the equality or order of the values.
    pub is_comparing: bool,
    /// True if values can be taken back, as those of rows that are updated or deleted.
    pub is_retractable: bool,
}

/// All functions, by lower-case name.
pub(crate) struct Functions {
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    windows: BTreeMap<String, Arc<WindowUDF>>,
    /// Names of `scalars` that only rewritten calls and operators use.
    internal_scalars: BTreeSet<String>,
    /// By the function's own name, not its aliases.
    scalar_properties: BTreeMap<String, ScalarProperties>,
    /// By the aggregate's own name, not its aliases.
    aggregate_properties: BTreeMap<&'static str, AggregateProperties>,
}

/// Returns the declarations of our own scalar functions.
fn own_scalars() -> Vec<Scalar> {
    [
        arrays::all(),
        as_of::all(),
        bitmaps::all(),
        casts::all(),
        clock::all(),
        text::all(),
        strings::all(),
        encodings::all(),
        format::all(),
        pattern::all(),
        raise::all(),
        time::all(),
        json::all(),
        maps::all(),
        multisets::all(),
        numbers::all(),
        objects::all(),
        random::all(),
        rounding::all(),
        decimals::all(),
        types::all(),
        vec![comparable::function(), value_text::function()],
    ]
    .concat()
}

impl Functions {
    /// Returns the registry, which is the same for every pipeline.
    pub(crate) fn all() -> &'static Self {
        static ALL: LazyLock<Functions> = LazyLock::new(Functions::new);
        &ALL
    }

    fn new() -> Self {
        let mut functions = Self {
            scalars: BTreeMap::new(),
            aggregates: BTreeMap::new(),
            windows: BTreeMap::new(),
            internal_scalars: BTreeSet::new(),
            scalar_properties: BTreeMap::new(),
            aggregate_properties: BTreeMap::new(),
        };
        functions.add_scalars();
        functions.add_aggregates();
        let windows = SessionStateDefaults::default_window_functions();
        for function in windows
            .into_iter()
            .filter(|window| builtin::WINDOWS.contains(&window.name()))
        {
            functions.windows.insert(function.name().to_ascii_lowercase(), function);
        }
        functions
    }

    /// Adds DataFusion's functions, then our own, then the declared aliases: later names replace earlier ones.
    fn add_scalars(&mut self) {
        let mut aliased: Vec<(&'static str, Arc<ScalarUDF>)> = Vec::new();
        for function in SessionStateDefaults::default_scalar_functions() {
            let name = function.name();
            if let Some(declared) = builtin::SCALARS.iter().find(|declared| declared.name == name) {
                let properties = ScalarProperties {
                    fallibility: declared.fallibility,
                    is_comparing: declared.is_comparing,
                    is_in_double: declared.is_in_double,
                    local_time: LocalTime::Unused,
                };
                self.scalar_properties.insert(name.to_owned(), properties);
                aliased.extend(declared.aliases.iter().map(|alias| (*alias, function.clone())));
                if declared.is_internal {
                    let names = function.aliases().iter().map(|alias| alias.to_ascii_lowercase());
                    self.internal_scalars.extend(names.chain([name.to_ascii_lowercase()]));
                }
            } else if !builtin::REPLACED_SCALARS.contains(&name) {
                continue;
            }
            if self.internal_scalars.contains(name) {
                for alias in function.aliases() {
                    self.scalars.insert(alias.to_ascii_lowercase(), function.clone());
                }
            }
            self.scalars.insert(name.to_ascii_lowercase(), function);
        }
        for declared in own_scalars() {
            let properties = ScalarProperties {
                fallibility: declared.fallibility(),
                is_comparing: declared.is_comparing(),
                is_in_double: false,
                local_time: declared.local_time(),
            };
            let aliases = declared.declared_aliases();
            let function = Arc::new(ScalarUDF::new_from_impl(declared));
            self.scalar_properties.insert(function.name().to_owned(), properties);
            aliased.extend(aliases.iter().map(|alias| (*alias, function.clone())));
            self.internal_scalars.remove(function.name());
            self.scalars.insert(function.name().to_ascii_lowercase(), function);
        }
        for (alias, function) in aliased {
            self.internal_scalars.remove(alias);
            self.scalars.insert(alias.to_owned(), function);
        }
    }

    /// Adds DataFusion's aggregates or their replacements, and our own, then the declared aliases.
    fn add_aggregates(&mut self) {
        let mut aliased: Vec<(&'static str, Arc<AggregateUDF>)> = Vec::new();
        let of_datafusion = SessionStateDefaults::default_aggregate_functions().into_iter();
        let of_datafusion = of_datafusion.filter_map(|function| {
            let mut declared = builtin::AGGREGATES.iter();
            let declared = declared.find(|declared| declared.name == function.name())?;
            Some((
                declared,
                declared.replacement.map_or(function, |replacement| replacement()),
            ))
        });
        let own = builtin::OWN_AGGREGATES
            .iter()
            .filter_map(|declared| Some((declared, declared.replacement?())));
        for (declared, function) in of_datafusion.chain(own) {
            let properties = AggregateProperties {
                partial_state: declared.partial_state,
                is_comparing: declared.is_comparing,
                is_retractable: declared.is_retractable,
            };
            self.aggregate_properties.insert(declared.name, properties);
            aliased.extend(declared.aliases.iter().map(|alias| (*alias, function.clone())));
            self.aggregates.insert(declared.name.to_owned(), function);
        }
        for (alias, function) in aliased {
            self.aggregates.insert(alias.to_owned(), function);
        }
    }

    /// Returns the scalar function of this name or alias, in any case.
    pub(crate) fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Returns the aggregate of this name or alias, in any case.
    pub(crate) fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Returns the window function of this name, in any case.
    pub(crate) fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Returns the properties of the scalar function of this name (not alias). Undeclared functions may fail.
    pub(crate) fn scalar_properties(&self, name: &str) -> ScalarProperties {
        self.scalar_properties.get(name).copied().unwrap_or(ScalarProperties {
            fallibility: Fallibility::Fallible,
            is_comparing: false,
            is_in_double: false,
            local_time: LocalTime::Unused,
        })
    }

    /// Returns the properties of the aggregate of this name (not alias). The state of undeclared aggregates may grow.
    pub(crate) fn aggregate_properties(&self, name: &str) -> AggregateProperties {
        self.aggregate_properties
            .get(name)
            .copied()
            .unwrap_or(AggregateProperties {
                partial_state: PartialState::Growing,
                is_comparing: false,
                is_retractable: false,
            })
    }

    /// Returns the names of the aggregates whose values can be taken back.
    pub(crate) fn retractable_aggregates(&self) -> impl Iterator<Item = &'static str> + '_ {
        let retractable = self
            .aggregate_properties
            .iter()
            .filter(|(_, properties)| properties.is_retractable);
        retractable.map(|(name, _)| *name)
    }

    /// Returns true if a lower-case name can be called, as a function or as another spelling of an expression.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.scalars.contains_key(name)
            || self.aggregates.contains_key(name)
            || self.windows.contains_key(name)
            || rewrites::names().any(|rewritten| rewritten == name)
            || SYNTAX.contains(&name)
    }

    /// Returns true if there is a function of this lower-case name, not only other expressions that it stands for.
    pub(crate) fn is_callable(&self, name: &str) -> bool {
        self.scalars.contains_key(name) || self.aggregates.contains_key(name) || self.windows.contains_key(name)
    }

    /// Returns true for the lower-case name of a function that needs `OVER`.
    pub(crate) fn is_window_only(&self, name: &str) -> bool {
        self.windows.contains_key(name) && !self.scalars.contains_key(name) && !self.aggregates.contains_key(name)
    }

    /// Returns all names that queries can call, for suggestions.
    pub(crate) fn public_names(&self) -> impl Iterator<Item = &str> + '_ {
        self.scalars
            .keys()
            .chain(self.aggregates.keys())
            .chain(self.windows.keys())
            .map(String::as_str)
            .chain(rewrites::names().map(|name| -> &str { name }))
            .filter(|name| !name.starts_with('$') && !self.is_internal(name))
    }

    /// Returns true if a lower-case name is that of a function which queries cannot call.
    pub(crate) fn is_internal(&self, name: &str) -> bool {
        self.internal_scalars.contains(name) && !rewrites::names().any(|rewritten| rewritten == name)
    }

    /// Returns the names of all scalar functions.
    pub(crate) fn scalar_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    /// Returns the names of all aggregates.
    pub(crate) fn aggregate_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    /// Returns the names of all window functions.
    pub(crate) fn window_names(&self) -> Vec<String> {
        self.windows.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: Into<String>>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
        names.into_iter().map(Into::into).collect()
    }

    #[test]
    fn every_function_of_datafusion_is_declared() {
        let defaults = SessionStateDefaults::default_scalar_functions();
        let declared = builtin::SCALARS.iter().map(|function| function.name);
        let declared = set(declared.chain(builtin::REPLACED_SCALARS.iter().copied()));
        assert_eq!(declared, set(defaults.iter().map(|function| function.name())));
        let defaults = SessionStateDefaults::default_aggregate_functions();
        let declared = builtin::AGGREGATES.iter().map(|function| function.name);
        assert_eq!(set(declared), set(defaults.iter().map(|function| function.name())));
        let defaults = SessionStateDefaults::default_window_functions();
        let declared = builtin::WINDOWS.iter().copied();
        assert_eq!(set(declared), set(defaults.iter().map(|function| function.name())));
    }

    #[test]
    fn declarations_are_unique() {
        let own: Vec<&str> = Functions::all().scalar_properties.keys().map(String::as_str).collect();
        let builtin = builtin::SCALARS.len();
        assert_eq!(own.len(), builtin + own_scalars().len(), "a name is declared twice");
    }

    #[test]
    fn replaced_functions_have_one_of_our_own() {
        let own: Vec<String> = own_scalars()
            .into_iter()
            .flat_map(|declared| {
                let aliases = declared.declared_aliases().iter().map(|alias| (*alias).to_owned());
                let names: Vec<String> = aliases.collect();
                [vec![ScalarUDF::new_from_impl(declared).name().to_owned()], names].concat()
            })
            .collect();
        for name in builtin::REPLACED_SCALARS {
            assert!(own.iter().any(|own| own == name), "{name}");
        }
    }

    #[test]
    fn scalar_functions_of_datafusion_are_internal_or_documented() {
        let page = include_str!("../../../../docs/sql.md").to_ascii_lowercase();
        let words: BTreeSet<&str> = page
            .split(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric())
            .collect();
        let callable = builtin::SCALARS.iter().filter(|function| !function.is_internal);
        let missing: Vec<&str> = callable
            .map(|function| function.name)
            .filter(|name| !words.contains(name))
            .collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn only_documented_names_can_be_called() {
        let page = include_str!("../../../../docs/sql.md").to_ascii_lowercase();
        let words: BTreeSet<&str> = page
            .split(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric())
            .collect();
        let missing: Vec<&str> = Functions::all()
            .public_names()
            .filter(|name| !words.contains(name))
            .collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn own_functions_and_their_aliases_are_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sql.md");
        let page = std::fs::read_to_string(path)
            .expect("the page exists")
            .to_ascii_lowercase();
        let own: Vec<(String, &[&str])> = own_scalars()
            .into_iter()
            .map(|declared| {
                let aliases = declared.declared_aliases();
                (ScalarUDF::new_from_impl(declared).name().to_owned(), aliases)
            })
            .collect();
        let builtin = builtin::SCALARS.iter().flat_map(|function| function.aliases);
        let aggregates = builtin::AGGREGATES.iter().flat_map(|function| function.aliases);
        let missing: Vec<&str> = own
            .iter()
            .flat_map(|(name, aliases)| std::iter::once(name.as_str()).chain(aliases.iter().copied()))
            .chain(builtin.map(|name| -> &str { name }))
            .chain(aggregates.map(|name| -> &str { name }))
            .chain(rewrites::names().map(|name| -> &str { name }))
            .filter(|name| !name.starts_with('$') && !page.contains(name))
            .collect();
        assert_eq!(missing, [""; 0]);
    }
}
