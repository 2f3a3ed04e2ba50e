//! The spec of one mode: the section of the mode is applied to sources and sinks, and the values of the mode to
//! parameters. The result has neither, so everything after it knows one mode only.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{Error, Positions, fields};
use crate::{JobSpec, Mode, Sink, Source};

/// Applies the section of a mode, and returns the values of the parameters in that mode by their names. `positions` of
/// entries of the section become those of the sources and sinks.
pub fn apply_mode(
    spec: &mut JobSpec,
    positions: &mut Positions,
    mode: Mode,
) -> Result<BTreeMap<String, String>, Vec<Error>> {
    let mut errors = Vec::new();
    let name = fields::MODES[mode as usize];
    let section = spec.modes.iter().find(|section| section.mode == mode as i32).cloned();
    if let Some(section) = section {
        for source in section.sources {
            match spec.sources.iter_mut().find(|of_all| of_all.name == source.name) {
                Some(of_all) => replace_source(of_all, source),
                None => errors.push(Error {
                    path: format!("modes.{name}.sources.{}", source.name),
                    at: None,
                    message: format!(
                        "there is no source `{}` to replace; a mode has the sources of `sources`, as its steps are the same",
                        source.name
                    ),
                }),
            }
        }
        if !section.sinks.is_empty() {
            let of_all = std::mem::take(&mut spec.sinks);
            for mut sink in section.sinks {
                if let Some(known) = of_all.iter().find(|known| known.name == sink.name) {
                    complete_sink(&mut sink, known);
                }
                if sink.from.is_empty() {
                    errors.push(Error {
                        path: format!("modes.{name}.sinks.{}", sink.name),
                        at: None,
                        message: format!(
                            "`from` is missing: `sinks` has no `{}` whose input it could be; name a step or source",
                            sink.name
                        ),
                    });
                }
                spec.sinks.push(sink);
            }
        }
        let prefix = format!("modes.{name}.");
        let of_section: Vec<_> = positions
            .0
            .iter()
            .filter_map(|(path, position)| Some((path.strip_prefix(&prefix)?.to_string(), *position)))
            .collect();
        positions.0.extend(of_section);
    }
    spec.modes.clear();
    let mut values = BTreeMap::new();
    for parameter in std::mem::take(&mut spec.parameters) {
        let of_mode = parameter.values.iter().find(|value| value.mode == mode as i32);
        match of_mode.map(|value| &value.value).or(parameter.default.as_ref()) {
            Some(value) => {
                values.insert(parameter.name, value.clone());
            }
            None => errors.push(Error {
                path: format!("parameters.{}", parameter.name),
                at: None,
                message: format!("it has no value in the mode `{name}`; give it `{name}:` or `default:`"),
            }),
        }
    }
    if errors.is_empty() {
        return Ok(values);
    }
    for error in &mut errors {
        error.at = positions
            .find(&error.path)
            .map(|position| (position.line, position.column));
    }
    Err(errors)
}

/// Replaces the connector of a source, with its options and format; the rest only where the other one has it.
fn replace_source(source: &mut Source, other: Source) {
    source.connector = other.connector;
    source.options = other.options;
    source.format = other.format;
    if !other.columns.is_empty() {
        source.columns = other.columns;
    }
    if !other.partitioned_by.is_empty() {
        source.partitioned_by = other.partitioned_by;
    }
    if !other.primary_key.is_empty() {
        source.primary_key = other.primary_key;
    }
    source.event_time = other.event_time.or(source.event_time.take());
    source.on_error = other.on_error.or(source.on_error);
}

/// Fills what a sink leaves out from the one of its name.
fn complete_sink(sink: &mut Sink, known: &Sink) {
    if sink.from.is_empty() {
        sink.from.clone_from(&known.from);
    }
    if sink.columns.is_empty() {
        sink.columns.clone_from(&known.columns);
    }
    if sink.primary_key.is_empty() {
        sink.primary_key.clone_from(&known.primary_key);
    }
    sink.on_error = sink.on_error.or(known.on_error);
}

/// Replaces `${param.NAME}` in a text; other references stay as they are. The error names the unknown parameter.
pub(super) fn replace_parameters(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    const START: &str = "${param.";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        out.push_str(&rest[..at]);
        let inner = &rest[at + START.len()..];
        let Some(end) = inner.find('}') else {
            return Err(format!("`{START}` has no `}}`; write `${{param.NAME}}`"));
        };
        let name = &inner[..end];
        let Some(value) = values.get(name) else {
            let known: BTreeSet<&str> = values.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => "; the pipeline has no `parameters`".to_string(),
                false => super::did_you_mean(name, known.iter().copied()),
            };
            return Err(format!("there is no parameter `{name}`{hint}"));
        };
        out.push_str(value);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
