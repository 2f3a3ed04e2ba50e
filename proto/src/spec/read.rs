//! Conversion of the tree of a YAML file to a [`JobSpec`], collecting all mistakes.

use std::collections::HashSet;

use crate::spec::fields::{self, Field, Kind};
use crate::spec::tree::{self, Key, Node, Value};
use crate::spec::{Error, Parsed, Positions, TEXT_BYTES_MAX, closest, units};
use crate::{
    Checkpoints, Column, Consistency, Delivery, ErrorPolicy, EventTime, JobSpec, Mode, ModeSection, ModeValue,
    Parameter, Property, Sink, Source, Step,
};

/// Parses YAML or JSON. Returns all mistakes of the text, in its order.
pub fn parse(text: &str) -> Result<Parsed, Vec<Error>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(vec![whole_file(&format!(
            "the file has {} bytes; a pipeline has at most {TEXT_BYTES_MAX} (TEXT_BYTES_MAX)",
            text.len()
        ))]);
    }
    let mut errors = Vec::new();
    let root = match tree::read(text, &mut errors) {
        Ok(Some(root)) if !root.is_null() => root,
        Ok(_) => {
            return Err(vec![whole_file(
                "the file is empty; a pipeline has a `name`, `sources` and `sinks`",
            )]);
        }
        Err(error) => {
            errors.push(error);
            return Err(errors);
        }
    };
    let mut reader = Reader {
        errors,
        positions: Positions::default(),
    };
    let spec = reader.job(&root);
    if reader.errors.is_empty() {
        return Ok(Parsed {
            spec,
            positions: reader.positions,
        });
    }
    reader.errors.sort_by_key(|error| error.at);
    Err(reader.errors)
}

fn whole_file(message: &str) -> Error {
    Error {
        path: String::new(),
        at: None,
        message: message.to_string(),
    }
}

/// The modes, in the order of [`fields::MODES`].
const MODES: [Mode; 3] = [Mode::Stream, Mode::Batch, Mode::Serve];

struct Reader {
    errors: Vec<Error>,
    positions: Positions,
}

/// The entries of one map, checked against its list of fields.
struct Entries<'a> {
    path: String,
    entries: Vec<(&'static str, &'a Node)>,
}

impl<'a> Entries<'a> {
    fn get(&self, name: &str) -> Option<(&'a Node, String)> {
        let (_, node) = self.entries.iter().find(|(field, _)| *field == name)?;
        Some((node, join(&self.path, name)))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

impl Reader {
    fn error(&mut self, path: &str, node: &Node, message: impl Into<String>) {
        self.errors.push(Error {
            path: path.to_string(),
            at: Some((node.position.line, node.position.column)),
            message: message.into(),
        });
    }

    fn job(&mut self, root: &Node) -> JobSpec {
        let Some(map) = self.map("", root, fields::JOB) else {
            return JobSpec::default();
        };
        let job = JobSpec {
            name: self.name(&map, "name"),
            mode: self
                .one_of(&map, "mode", fields::MODES)
                .map(|index| MODES[index] as i32),
            parallelism: self.count_or_auto(&map, "parallelism", fields::MAX_PARALLELISM_MAX),
            max_parallelism: self.count(&map, "max_parallelism", 1, fields::MAX_PARALLELISM_MAX),
            state_ttl_ms: self.duration(&map, "state_ttl").filter(|ms| *ms > 0),
            consistency: self.consistency(&map),
            time_zone: self.text(&map, "time_zone"),
            checkpoints: self.checkpoints(&map),
            sources: self.named(&map, "sources", fields::SOURCE, Self::source),
            steps: self.named(&map, "steps", fields::STEP, Self::step),
            sinks: self.named(&map, "sinks", fields::SINK, Self::sink),
            parameters: self.named(&map, "parameters", fields::PARAMETER, Self::parameter),
            modes: self.mode_sections(&map),
        };
        if let (Some(parallelism), Some(max)) = (job.parallelism, job.max_parallelism)
            && parallelism > max
            && let Some((node, path)) = map.get("parallelism")
        {
            self.error(
                &path,
                node,
                format!("{parallelism} is more than max_parallelism, {max}"),
            );
        }
        self.refuse_name_clashes(&map);
        job
    }

    /// Refuses a step with the name of a source: queries refer to both by name.
    fn refuse_name_clashes(&mut self, map: &Entries<'_>) {
        let mut seen = HashSet::new();
        for section in ["sources", "steps"] {
            let Some((node, path)) = map.get(section) else { continue };
            let Value::Map(entries) = &node.value else { continue };
            for (key, node) in entries {
                if !seen.insert(key.name.to_lowercase()) {
                    let message = format!("`{}` is the name of another source or step; choose another", key.name);
                    self.error(&join(&path, &key.name), node, message);
                }
            }
        }
    }

    fn consistency(&mut self, map: &Entries<'_>) -> Option<Consistency> {
        let map = self.sub_map(map, "consistency", fields::CONSISTENCY)?;
        let interval_ms = self.duration(&map, "interval");
        if interval_ms == Some(0)
            && let Some((node, path)) = map.get("interval")
        {
            self.error(
                &path,
                node,
                "an interval of 0 would do nothing but consistency points; write at least `1ms`, or leave it out to emit \
                 changes at once",
            );
        }
        Some(Consistency { interval_ms })
    }

    fn checkpoints(&mut self, map: &Entries<'_>) -> Option<Checkpoints> {
        let map = self.sub_map(map, "checkpoints", fields::CHECKPOINTS)?;
        let interval_ms = self.duration(&map, "interval");
        if interval_ms == Some(0)
            && let Some((node, path)) = map.get("interval")
        {
            self.error(
                &path,
                node,
                "an interval of 0 would do nothing but checkpoints; write at least `10ms`",
            );
        }
        Some(Checkpoints {
            interval_ms,
            delivery: self
                .one_of(&map, "delivery", fields::DELIVERIES)
                .map(|index| [Delivery::ExactlyOnce, Delivery::AtLeastOnce][index] as i32),
            retain: self.count(&map, "retain", 1, 1000),
            storage: self.text(&map, "storage"),
            min_pause_ms: self.duration(&map, "min_pause"),
            timeout_ms: self.duration(&map, "timeout"),
            tolerable_failures: self.count(&map, "tolerable_failures", 0, 1_000_000),
            aligned_timeout_ms: self.duration(&map, "aligned_timeout"),
        })
    }

    fn source(&mut self, name: String, map: &Entries<'_>) -> Source {
        Source {
            name,
            connector: self.text(map, "connector").unwrap_or_default(),
            options: self.options(map),
            format: self.text(map, "format"),
            columns: self.columns(map),
            event_time: self.event_time(map),
            on_error: self.error_policy(map),
            partitioned_by: self.texts(map, "partitioned_by"),
            primary_key: self.texts(map, "primary_key"),
        }
    }

    fn event_time(&mut self, map: &Entries<'_>) -> Option<EventTime> {
        let map = self.sub_map(map, "event_time", fields::EVENT_TIME)?;
        let event_time = EventTime {
            column: self.text(&map, "column").unwrap_or_default(),
            out_of_orderness_ms: self.duration(&map, "out_of_orderness"),
            idle_timeout_ms: self.duration(&map, "idle_timeout"),
            max_future_ms: self.duration(&map, "max_future"),
            expression: self.text(&map, "expression"),
        };
        if event_time.expression.is_some()
            && let Some((node, path)) = map.get("out_of_orderness")
        {
            self.error(
                &path,
                node,
                "`expression` says already how far rows may be out of order; leave one of them out",
            );
        }
        Some(event_time)
    }

    fn step(&mut self, name: String, map: &Entries<'_>) -> Step {
        Step {
            name,
            sql: self.text(map, "sql").unwrap_or_default(),
            on_error: self.error_policy(map),
        }
    }

    fn sink(&mut self, name: String, map: &Entries<'_>) -> Sink {
        Sink {
            name,
            from: self.text(map, "from").unwrap_or_default(),
            connector: self.text(map, "connector").unwrap_or_default(),
            options: self.options(map),
            format: self.text(map, "format"),
            columns: self.columns(map),
            partitioned_by: self.texts(map, "partitioned_by"),
            primary_key: self.texts(map, "primary_key"),
            on_error: self.error_policy(map),
        }
    }

    fn parameter(&mut self, name: String, map: &Entries<'_>) -> Parameter {
        let mut values = Vec::new();
        for (mode, field) in MODES.into_iter().zip(fields::MODES) {
            let mode = mode as i32;
            values.extend(self.text(map, field).map(|value| ModeValue { mode, value }));
        }
        let default = self.text(map, "default");
        Parameter { name, default, values }
    }

    fn mode_sections(&mut self, map: &Entries<'_>) -> Vec<ModeSection> {
        let Some(sections) = self.sub_map(map, "modes", fields::MODE_SECTIONS) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (mode, field) in MODES.into_iter().zip(fields::MODES) {
            let Some(section) = self.sub_map(&sections, field, fields::MODE_SECTION) else {
                continue;
            };
            found.push(ModeSection {
                mode: mode as i32,
                sources: self.named(&section, "sources", fields::SOURCE, Self::source),
                sinks: self.named(&section, "sinks", fields::MODE_SINK, Self::sink),
            });
        }
        found
    }

    fn columns(&mut self, map: &Entries<'_>) -> Vec<Column> {
        let Some((node, path)) = map.get("columns") else {
            return Vec::new();
        };
        let Value::Map(entries) = &node.value else {
            self.error(
                &path,
                node,
                format!("expected a map of column names to types, found {}", node.kind()),
            );
            return Vec::new();
        };
        let mut columns = Vec::new();
        for (key, node) in entries {
            let path = join(&path, &key.name);
            self.positions.0.insert(path.clone(), key.position);
            if let Value::Scalar { text, .. } = &node.value
                && !node.is_null()
            {
                columns.push(Column {
                    name: key.name.clone(),
                    r#type: Some(text.clone()),
                    ..Column::default()
                });
                continue;
            }
            let Some(map) = self.map(&path, node, fields::COLUMN) else {
                continue;
            };
            let column = Column {
                name: key.name.clone(),
                r#type: self.text(&map, "type"),
                computed: self.text(&map, "as"),
                metadata: self.text(&map, "metadata"),
                r#virtual: self.boolean(&map, "virtual").unwrap_or(false),
            };
            match (&column.r#type, &column.computed) {
                (None, None) => self.error(&path, node, "a column has a `type`, or an expression in `as`"),
                (Some(_), Some(_)) => {
                    self.error(
                        &path,
                        node,
                        "the type of a computed column is that of its expression; leave `type` out",
                    );
                }
                _ => {}
            }
            if column.computed.is_some() && column.metadata.is_some() {
                self.error(
                    &path,
                    node,
                    "a column is computed (`as`) or read from `metadata`, not both",
                );
            }
            columns.push(column);
        }
        columns
    }

    fn options(&mut self, map: &Entries<'_>) -> Vec<Property> {
        let Some((node, path)) = map.get("options") else {
            return Vec::new();
        };
        let mut properties = Vec::new();
        self.flatten_options(&path, "", node, &mut properties);
        properties
    }

    /// Collects options. `properties: { a.b: 1 }` is the same option as `properties.a.b: 1`.
    fn flatten_options(&mut self, path: &str, prefix: &str, node: &Node, properties: &mut Vec<Property>) {
        match &node.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    let name = join(prefix, &key.name);
                    let path = join(path, &key.name);
                    self.positions.0.insert(path.clone(), node.position);
                    if let Value::Scalar { text, .. } = &node.value
                        && !node.is_null()
                    {
                        if properties.iter().any(|property| property.key == name) {
                            self.error(&path, node, format!("the option `{name}` is given twice"));
                        }
                        properties.push(Property {
                            key: name,
                            value: text.clone(),
                        });
                    } else {
                        self.flatten_options(&path, &name, node, properties);
                    }
                }
            }
            _ if prefix.is_empty() => {
                self.error(
                    path,
                    node,
                    format!("expected a map of option names to values, found {}", node.kind()),
                );
            }
            _ => self.error(path, node, format!("expected text, found {}", node.kind())),
        }
    }

    /// Reads the named entries of a section, in their order in the text.
    fn named<T>(
        &mut self,
        map: &Entries<'_>,
        section: &str,
        fields: &'static [Field],
        read: fn(&mut Self, String, &Entries<'_>) -> T,
    ) -> Vec<T> {
        let Some((node, path)) = map.get(section) else {
            return Vec::new();
        };
        let Value::Map(entries) = &node.value else {
            self.error(
                &path,
                node,
                format!("expected a map from names to {section}, found {}", node.kind()),
            );
            return Vec::new();
        };
        if entries.is_empty() && matches!(section, "sources" | "sinks") {
            self.error(&path, node, format!("a pipeline has at least one of its {section}"));
        }
        let mut items = Vec::new();
        for (key, node) in entries {
            let path = join(&path, &key.name);
            self.check_name(
                &path,
                key,
                |c| c.is_ascii_alphanumeric() || c == '_',
                "letters, digits and `_`",
            );
            self.positions.0.insert(path.clone(), key.position);
            if let Some(map) = self.map(&path, node, fields) {
                items.push(read(self, key.name.clone(), &map));
            }
        }
        items
    }

    fn check_name(&mut self, path: &str, key: &Key, allowed: fn(char) -> bool, allowed_text: &str) {
        let good = key.name.chars().all(allowed)
            && key.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.name.len() <= 200;
        if !good {
            self.errors.push(Error {
                path: path.to_string(),
                at: Some((key.position.line, key.position.column)),
                message: format!(
                    "`{}` cannot be a name; a name begins with a letter and consists of {allowed_text} (200 at most)",
                    key.name
                ),
            });
        }
    }

    fn name(&mut self, map: &Entries<'_>, field: &str) -> String {
        let Some(name) = self.text(map, field) else {
            return String::new();
        };
        if let Some((node, path)) = map.get(field) {
            let key = Key {
                name: name.clone(),
                position: node.position,
            };
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            self.check_name(&path, &key, allowed, "letters, digits, `_`, `-` and `.`");
        }
        name
    }

    /// Compares the keys of a map with its fields: unknown and missing ones are errors.
    fn map<'a>(&mut self, path: &str, node: &'a Node, fields: &'static [Field]) -> Option<Entries<'a>> {
        let Value::Map(entries) = &node.value else {
            let names: Vec<_> = fields.iter().map(|field| field.name).collect();
            let message = format!("expected a map with {}, found {}", names.join(", "), node.kind());
            self.error(path, node, message);
            return None;
        };
        let mut found = Vec::new();
        for (key, node) in entries {
            let Some(field) = fields.iter().find(|field| field.name == key.name) else {
                let names = fields.iter().map(|field| field.name);
                let hint = match closest(&key.name, names.clone()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("known are {}", names.collect::<Vec<_>>().join(", ")),
                };
                self.errors.push(Error {
                    path: path.to_string(),
                    at: Some((key.position.line, key.position.column)),
                    message: format!("unknown field `{}`; {hint}", key.name),
                });
                continue;
            };
            self.positions.0.insert(join(path, field.name), node.position);
            if node.is_null() && !takes_null(field) {
                self.error(
                    &join(path, field.name),
                    node,
                    "nothing is given here; give a value or leave the field out",
                );
                continue;
            }
            found.push((field.name, node));
        }
        for field in fields.iter().filter(|field| field.required) {
            if !entries.iter().any(|(key, _)| key.name == field.name) {
                let message = format!("`{}` is missing: {}", field.name, field.help);
                self.error(path, node, message);
            }
        }
        Some(Entries {
            path: path.to_string(),
            entries: found,
        })
    }

    fn sub_map<'a>(&mut self, map: &Entries<'a>, field: &str, fields: &'static [Field]) -> Option<Entries<'a>> {
        let (node, path) = map.get(field)?;
        self.map(&path, node, fields)
    }

    fn text(&mut self, map: &Entries<'_>, field: &str) -> Option<String> {
        let (node, path) = map.get(field)?;
        match &node.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => {
                self.error(&path, node, format!("expected text, found {}", node.kind()));
                None
            }
        }
    }

    fn texts(&mut self, map: &Entries<'_>, field: &str) -> Vec<String> {
        let Some((node, path)) = map.get(field) else {
            return Vec::new();
        };
        let items = match &node.value {
            Value::Scalar { text, .. } => return vec![text.clone()],
            Value::List(items) => items,
            Value::Map(_) => {
                self.error(&path, node, "expected a list of names, found a map");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::Scalar { text, .. } if !item.is_null() => texts.push(text.clone()),
                _ => self.error(&path, item, format!("expected a name, found {}", item.kind())),
            }
        }
        texts
    }

    fn count(&mut self, map: &Entries<'_>, field: &str, min: u32, max: u32) -> Option<u32> {
        let text = self.text(map, field)?;
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        if number.is_none()
            && let Some((node, path)) = map.get(field)
        {
            self.error(
                &path,
                node,
                format!("`{text}` is not a whole number from {min} to {max}"),
            );
        }
        number
    }

    fn count_or_auto(&mut self, map: &Entries<'_>, field: &str, max: u32) -> Option<u32> {
        let (node, _) = map.get(field)?;
        if matches!(&node.value, Value::Scalar { text, .. } if text == "auto") {
            return None;
        }
        self.count(map, field, 1, max)
    }

    fn boolean(&mut self, map: &Entries<'_>, field: &str) -> Option<bool> {
        self.one_of(map, field, &["false", "true"]).map(|index| index == 1)
    }

    fn duration(&mut self, map: &Entries<'_>, field: &str) -> Option<u64> {
        let text = self.text(map, field)?;
        match units::parse_duration_ms(&text) {
            Ok(ms) => Some(ms),
            Err(message) => {
                if let Some((node, path)) = map.get(field) {
                    self.error(&path, node, message);
                }
                None
            }
        }
    }

    fn one_of(&mut self, map: &Entries<'_>, field: &str, words: &[&'static str]) -> Option<usize> {
        let text = self.text(map, field)?;
        let found = words.iter().position(|word| *word == text);
        if found.is_none()
            && let Some((node, path)) = map.get(field)
        {
            let hint = match closest(&text, words.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write one of {}", words.join(", ")),
            };
            self.error(&path, node, format!("`{text}` is not known here; {hint}"));
        }
        found
    }

    fn error_policy(&mut self, map: &Entries<'_>) -> Option<i32> {
        // YAML's plain `null` is the policy of that name here.
        let index = self.one_of(map, "on_error", fields::ERROR_POLICIES)?;
        let policies = [
            ErrorPolicy::Fail,
            ErrorPolicy::DeadLetter,
            ErrorPolicy::Skip,
            ErrorPolicy::Null,
        ];
        Some(policies[index] as i32)
    }
}

/// Returns true if YAML's plain `null` is one of the words of a field.
fn takes_null(field: &Field) -> bool {
    matches!(field.kind, Kind::OneOf(words) if words.contains(&"null"))
}
