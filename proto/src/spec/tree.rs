//! YAML text as a tree with positions.
//!
//! Scalars remain text; the field decides the meaning of `10` or `true`. Aliases are replaced by copies of their
//! anchors, within a limit. A duplicate key, a second document, a tag and a key that is not text are errors.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::{Error, Position};

/// Largest number of values in a file, copies by aliases included.
const NODES_MAX: usize = 100_000;

/// A value, and where it is written.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its position.
    pub position: Position,
}

/// A value of the text.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text; `plain` if written without quotes.
    Scalar {
        /// The text.
        text: String,
        /// True if written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text.
    Map(Vec<(Key, Node)>),
}

/// The key of an entry of a map.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Its position.
    pub position: Position,
}

impl Node {
    /// Returns the value as JSON text. Plain scalars are numbers, `true`, `false` or null if they have the form of one;
    /// digits remain as they are written, so that a decimal of any precision is kept.
    pub fn to_json(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "null".to_owned(),
            Value::Scalar { text, plain: true }
                if matches!(text.as_str(), "true" | "false")
                    || serde_json::from_str::<serde_json::Number>(text).is_ok() =>
            {
                text.clone()
            }
            Value::Scalar { text, .. } => quoted(text),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_json).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}:{}", quoted(&key.name), value.to_json()))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    /// Returns true if there is no value: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Returns the kind of value, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Parses the whole text. Appends duplicate keys to `errors` (the first occurrence is used); other mistakes are the
/// `Err`.
pub fn read(text: &str, errors: &mut Vec<Error>) -> Result<Option<Node>, Error> {
    let mut builder = Builder {
        text_lines: text.lines().collect(),
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        nodes: 0,
        errors,
    };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Error {
            path: String::new(),
            at: Some((error.marker().line() as u64, error.marker().col() as u64 + 1)),
            message: format!("this is not valid YAML: {}", error.info()),
        })?;
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                return Err(at(&span, "a second document starts here; a file holds one pipeline"));
            }
        }
        builder.event(event, span)?;
    }
    Ok(builder.root)
}

struct Builder<'a> {
    text_lines: Vec<&'a str>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    errors: &'a mut Vec<Error>,
}

/// A list or map that has not ended yet.
struct Open {
    position: Position,
    anchor: usize,
    nodes_before: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
    },
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                let node = Node {
                    position: self.scalar_position(&span, style),
                    value: Value::Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                    },
                };
                self.add(node, anchor, 1, &span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                self.start(OpenKind::List(Vec::new()), anchor, &span)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                let entries = Vec::new();
                self.start(OpenKind::Map { entries, key: None }, anchor, &span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self
                    .open
                    .pop()
                    .ok_or_else(|| at(&span, "a list or map ends that never began"))?;
                let value = match open.kind {
                    OpenKind::List(items) => Value::List(items),
                    OpenKind::Map { entries, .. } => Value::Map(entries),
                };
                let size = self.nodes - open.nodes_before;
                let node = Node {
                    value,
                    position: open.position,
                };
                self.add(node, open.anchor, size, &span)
            }
            Event::Alias(id) => {
                let (mut node, size) = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| at(&span, "this alias refers to a value that contains it"))?;
                self.count(size, &span)?;
                node.position = position(&span);
                self.add(node, 0, 0, &span)
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, kind: OpenKind, anchor: usize, span: &Span) -> Result<(), Error> {
        if matches!(
            self.open.last().map(|open| &open.kind),
            Some(OpenKind::Map { key: None, .. })
        ) {
            return Err(at(span, "a key must be text, not a list or map"));
        }
        let nodes_before = self.nodes;
        self.count(1, span)?;
        self.open.push(Open {
            position: position(span),
            anchor,
            nodes_before,
            kind,
        });
        Ok(())
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Error> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(at(
                span,
                &format!("the file holds more than {NODES_MAX} values (NODES_MAX)"),
            ));
        }
        Ok(())
    }

    /// Adds a complete value to the innermost open list or map.
    fn add(&mut self, node: Node, anchor: usize, size: usize, span: &Span) -> Result<(), Error> {
        if matches!(node.value, Value::Scalar { .. }) && size == 1 {
            self.count(1, span)?;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map { entries, key }) => match key.take() {
                None => match node.value {
                    Value::Scalar { text, .. } => {
                        *key = Some(Key {
                            name: text,
                            position: node.position,
                        });
                    }
                    _ => return Err(at(span, "a key must be text, not a list or map")),
                },
                Some(key) => {
                    if let Some((first, _)) = entries.iter().find(|(other, _)| other.name == key.name) {
                        self.errors.push(Error {
                            path: String::new(),
                            at: Some((key.position.line, key.position.column)),
                            message: format!(
                                "`{}` is given twice; the first is in line {}",
                                key.name, first.position.line
                            ),
                        });
                    } else {
                        entries.push((key, node));
                    }
                }
            },
        }
        Ok(())
    }

    /// Returns the position of a scalar; for a literal block also that of its text, where the parser's span begins. The
    /// first line that is not blank determines the indentation.
    fn scalar_position(&self, span: &Span, style: ScalarStyle) -> Position {
        let mut position = position(span);
        if style == ScalarStyle::Literal {
            let first = span.start.line();
            let indentation = self.text_lines[(first - 1).min(self.text_lines.len())..]
                .iter()
                .find(|line| !line.trim().is_empty())
                .map(|line| line.len() - line.trim_start_matches(' ').len());
            position.block = indentation.map(|columns| (first as u64, columns as u64 + 1));
        }
        position
    }
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line() as u64,
        column: span.start.col() as u64 + 1,
        block: None,
    }
}

fn at(span: &Span, message: &str) -> Error {
    Error {
        path: String::new(),
        at: Some((span.start.line() as u64, span.start.col() as u64 + 1)),
        message: message.to_string(),
    }
}

fn refuse_tag(tagged: bool, span: &Span) -> Result<(), Error> {
    if tagged {
        return Err(at(span, "YAML tags (`!name`) mean nothing here; leave the tag out"));
    }
    Ok(())
}
