//! Formatting of a [`JobSpec`] as text that a person would write.
//!
//! YAML and JSON are formatted from one ordered value, so they agree. Text that YAML could read as another value is
//! quoted; SQL of several lines becomes a literal block if that is lossless.

use std::fmt::Write;

use crate::spec::fields;
use crate::spec::units::format_duration_ms;
use crate::{Checkpoints, Column, EventTime, JobSpec, Property, Sink, Source};

/// Formats a spec as YAML, in the order of the fields.
pub fn to_yaml(spec: &JobSpec) -> String {
    let mut out = String::new();
    if let Value::Map(entries) = job(spec) {
        yaml_map(&entries, 0, &mut out);
    }
    out
}

/// Formats a spec as JSON, in the order of the fields.
pub fn to_json(spec: &JobSpec) -> String {
    let mut out = serde_json::to_string_pretty(&json(&job(spec))).expect("text keys and values always serialise");
    out.push('\n');
    out
}

enum Value {
    Text(String),
    Number(u32),
    Boolean(bool),
    List(Vec<String>),
    Map(Vec<(String, Value)>),
}

#[derive(Default)]
struct Map(Vec<(String, Value)>);

impl Map {
    fn put(&mut self, name: &str, value: Value) {
        self.0.push((name.to_string(), value));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.put(name, Value::Text(text.to_string()));
    }

    fn text_if(&mut self, name: &str, text: &Option<String>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn number_if(&mut self, name: &str, number: Option<u32>) {
        if let Some(number) = number {
            self.put(name, Value::Number(number));
        }
    }

    fn duration_if(&mut self, name: &str, ms: Option<u64>) {
        if let Some(ms) = ms {
            self.text(name, &format_duration_ms(ms));
        }
    }

    /// Puts the word of an enum. A value of a newer protocol is written as its number, which the reader then reports.
    fn word_if(&mut self, name: &str, words: &[&str], index: Option<i32>) {
        if let Some(index) = index {
            let word = usize::try_from(index).ok().and_then(|index| words.get(index));
            self.text(
                name,
                word.copied().map_or_else(|| index.to_string(), str::to_string).as_str(),
            );
        }
    }

    fn list_unless_empty(&mut self, name: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.put(name, Value::List(texts.to_vec()));
        }
    }

    fn options(&mut self, properties: &[Property]) {
        if !properties.is_empty() {
            let mut map = Map::default();
            for property in properties {
                map.text(&property.key, &property.value);
            }
            self.put("options", Value::Map(map.0));
        }
    }

    fn columns(&mut self, columns: &[Column]) {
        if !columns.is_empty() {
            let entries = columns.iter().map(|column| (column.name.clone(), self::column(column)));
            self.put("columns", Value::Map(entries.collect()));
        }
    }
}

fn job(spec: &JobSpec) -> Value {
    let mut map = Map::default();
    map.text("name", &spec.name);
    map.word_if("mode", fields::MODES, spec.mode);
    map.number_if("parallelism", spec.parallelism);
    map.number_if("max_parallelism", spec.max_parallelism);
    map.duration_if("state_ttl", spec.state_ttl_ms);
    if let Some(consistency) = &spec.consistency {
        let mut fields = Map::default();
        fields.duration_if("interval", consistency.interval_ms);
        map.put("consistency", Value::Map(fields.0));
    }
    map.text_if("time_zone", &spec.time_zone);
    if let Some(checkpoints) = &spec.checkpoints {
        map.put("checkpoints", self::checkpoints(checkpoints));
    }
    map.put("sources", sources(&spec.sources));
    if !spec.steps.is_empty() {
        let steps = spec.steps.iter().map(|step| {
            let mut map = Map::default();
            map.text("sql", &step.sql);
            map.word_if("on_error", fields::ERROR_POLICIES, step.on_error);
            (step.name.clone(), Value::Map(map.0))
        });
        map.put("steps", Value::Map(steps.collect()));
    }
    map.put("sinks", sinks(&spec.sinks, false));
    if !spec.parameters.is_empty() {
        let parameters = spec.parameters.iter().map(|parameter| {
            let mut map = Map::default();
            map.text_if("default", &parameter.default);
            for value in &parameter.values {
                map.text(mode_name(value.mode), &value.value);
            }
            (parameter.name.clone(), Value::Map(map.0))
        });
        map.put("parameters", Value::Map(parameters.collect()));
    }
    if !spec.modes.is_empty() {
        let mut modes = Map::default();
        for section in &spec.modes {
            let mut map = Map::default();
            if !section.sources.is_empty() {
                map.put("sources", sources(&section.sources));
            }
            if !section.sinks.is_empty() {
                map.put("sinks", sinks(&section.sinks, true));
            }
            modes.put(mode_name(section.mode), Value::Map(map.0));
        }
        map.put("modes", Value::Map(modes.0));
    }
    Value::Map(map.0)
}

/// Returns the name of a mode. That of a newer protocol is unknown to the reader, too.
fn mode_name(mode: i32) -> &'static str {
    let name = usize::try_from(mode).ok().and_then(|mode| fields::MODES.get(mode));
    name.copied().unwrap_or("unknown")
}

fn sources(sources: &[Source]) -> Value {
    let sources = sources.iter().map(|source| {
        let mut map = Map::default();
        map.text("connector", &source.connector);
        map.options(&source.options);
        map.text_if("format", &source.format);
        map.columns(&source.columns);
        if let Some(event_time) = &source.event_time {
            map.put("event_time", self::event_time(event_time));
        }
        map.word_if("on_error", fields::ERROR_POLICIES, source.on_error);
        map.list_unless_empty("partitioned_by", &source.partitioned_by);
        map.list_unless_empty("primary_key", &source.primary_key);
        (source.name.clone(), Value::Map(map.0))
    });
    Value::Map(sources.collect())
}

/// Returns the sinks of a pipeline, or those of a mode, which may take their input from the sink of the same name.
fn sinks(sinks: &[Sink], of_mode: bool) -> Value {
    let sinks = sinks.iter().map(|sink| {
        let mut map = Map::default();
        if !(of_mode && sink.from.is_empty()) {
            map.text("from", &sink.from);
        }
        map.text("connector", &sink.connector);
        map.options(&sink.options);
        map.text_if("format", &sink.format);
        map.columns(&sink.columns);
        map.list_unless_empty("partitioned_by", &sink.partitioned_by);
        map.list_unless_empty("primary_key", &sink.primary_key);
        map.word_if("on_error", fields::ERROR_POLICIES, sink.on_error);
        (sink.name.clone(), Value::Map(map.0))
    });
    Value::Map(sinks.collect())
}

fn checkpoints(checkpoints: &Checkpoints) -> Value {
    let mut map = Map::default();
    map.duration_if("interval", checkpoints.interval_ms);
    map.word_if("delivery", fields::DELIVERIES, checkpoints.delivery);
    map.number_if("retain", checkpoints.retain);
    map.text_if("storage", &checkpoints.storage);
    map.duration_if("min_pause", checkpoints.min_pause_ms);
    map.duration_if("timeout", checkpoints.timeout_ms);
    map.number_if("tolerable_failures", checkpoints.tolerable_failures);
    map.duration_if("aligned_timeout", checkpoints.aligned_timeout_ms);
    Value::Map(map.0)
}

fn event_time(event_time: &EventTime) -> Value {
    let mut map = Map::default();
    map.text("column", &event_time.column);
    map.duration_if("out_of_orderness", event_time.out_of_orderness_ms);
    map.duration_if("idle_timeout", event_time.idle_timeout_ms);
    map.duration_if("max_future", event_time.max_future_ms);
    map.text_if("expression", &event_time.expression);
    Value::Map(map.0)
}

fn column(column: &Column) -> Value {
    if let (Some(data_type), None, None, false) = (&column.r#type, &column.computed, &column.metadata, column.r#virtual)
    {
        return Value::Text(data_type.clone());
    }
    let mut map = Map::default();
    map.text_if("type", &column.r#type);
    map.text_if("as", &column.computed);
    map.text_if("metadata", &column.metadata);
    if column.r#virtual {
        map.put("virtual", Value::Boolean(true));
    }
    Value::Map(map.0)
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => text.clone().into(),
        Value::Number(number) => (*number).into(),
        Value::Boolean(boolean) => (*boolean).into(),
        Value::List(texts) => texts.clone().into(),
        Value::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

fn yaml_map(entries: &[(String, Value)], indent: usize, out: &mut String) {
    for (key, value) in entries {
        out.extend(std::iter::repeat_n(' ', indent));
        out.push_str(&yaml_text(key));
        out.push(':');
        match value {
            Value::Text(text) => match literal_block(text, indent + 2) {
                Some(block) => out.push_str(&block),
                None => {
                    out.push(' ');
                    out.push_str(&yaml_text(text));
                    out.push('\n');
                }
            },
            Value::Number(number) => out.push_str(&format!(" {number}\n")),
            Value::Boolean(boolean) => out.push_str(&format!(" {boolean}\n")),
            Value::List(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| yaml_text(text)).collect();
                out.push_str(&format!(" [{}]\n", texts.join(", ")));
            }
            Value::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Value::Map(entries) => {
                out.push('\n');
                yaml_map(entries, indent + 2, out);
            }
        }
    }
}

/// Formats text as a literal block (` |` or ` |-`); `None` if that would not be lossless.
fn literal_block(text: &str, indent: usize) -> Option<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let printable = |c: char| c == '\n' || !needs_escape(c);
    let plain =
        body.contains('\n') && !body.starts_with([' ', '\n']) && !body.ends_with('\n') && body.chars().all(printable);
    if !plain {
        return None;
    }
    let mut out = String::from(if text.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in body.split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
    Some(out)
}

/// Formats text on one line: plain if YAML reads it as the same text, else in double quotes.
fn yaml_text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/'))
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        return text.to_string();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => write!(out, "\\u{:04x}", c as u32).expect("writing to a String cannot fail"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns true for characters that YAML does not allow or would fold.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}
