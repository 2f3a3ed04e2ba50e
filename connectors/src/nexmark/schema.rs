//! The columns of a table: a subset of those of the generator, in any order.

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use crate::OptionError;

/// The four columns of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    EventType,
    Person,
    Auction,
    Bid,
}

/// Fields of a person, in the order in which [`super::batch`] generates them; likewise for the others.
pub(super) const PERSON: [(&str, Leaf); 8] = [
    ("id", Leaf::BigInt),
    ("name", Leaf::Text),
    ("emailAddress", Leaf::Text),
    ("creditCard", Leaf::Text),
    ("city", Leaf::Text),
    ("state", Leaf::Text),
    ("dateTime", Leaf::Time),
    ("extra", Leaf::Text),
];
pub(super) const AUCTION: [(&str, Leaf); 10] = [
    ("id", Leaf::BigInt),
    ("itemName", Leaf::Text),
    ("description", Leaf::Text),
    ("initialBid", Leaf::BigInt),
    ("reserve", Leaf::BigInt),
    ("dateTime", Leaf::Time),
    ("expires", Leaf::Time),
    ("seller", Leaf::BigInt),
    ("category", Leaf::BigInt),
    ("extra", Leaf::Text),
];
pub(super) const BID: [(&str, Leaf); 7] = [
    ("auction", Leaf::BigInt),
    ("bidder", Leaf::BigInt),
    ("price", Leaf::BigInt),
    ("channel", Leaf::Text),
    ("url", Leaf::Text),
    ("dateTime", Leaf::Time),
    ("extra", Leaf::Text),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    BigInt,
    Text,
    Time,
}

impl Leaf {
    fn fits(self, data_type: &DataType) -> bool {
        match self {
            Leaf::BigInt => *data_type == DataType::Int64,
            Leaf::Text => *data_type == DataType::Utf8,
            Leaf::Time => matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _)),
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Leaf::BigInt => "BIGINT",
            Leaf::Text => "STRING",
            Leaf::Time => "TIMESTAMP(3)",
        }
    }
}

/// The table's columns, resolved.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub kind: Kind,
    /// The row type's fields; empty for the event type.
    pub fields: Fields,
    /// For each of `fields`, its index in the fields of the generator.
    pub members: Vec<usize>,
}

impl Columns {
    /// Returns all mistakes in a table's columns.
    pub(super) fn check(schema: &Schema) -> Vec<OptionError> {
        Self::resolve(schema).err().unwrap_or_default()
    }

    pub(super) fn resolve(schema: &Schema) -> Result<Self, Vec<OptionError>> {
        let mut errors = Vec::new();
        let columns = schema
            .fields()
            .iter()
            .filter_map(|field| column(field, &mut errors))
            .collect();
        if errors.is_empty() {
            Ok(Self { columns })
        } else {
            Err(errors)
        }
    }
}

fn column(field: &Field, errors: &mut Vec<OptionError>) -> Option<Column> {
    let name = field.name();
    let mut wrong = |message: String| errors.push(OptionError::new(name.clone(), message));
    let (kind, known): (_, &[(&str, Leaf)]) = match name.as_str() {
        "event_type" => {
            if *field.data_type() != DataType::Int32 {
                wrong("the column `event_type` must be INT".into());
            }
            return Some(Column {
                kind: Kind::EventType,
                fields: Fields::empty(),
                members: Vec::new(),
            });
        }
        "person" => (Kind::Person, &PERSON),
        "auction" => (Kind::Auction, &AUCTION),
        "bid" => (Kind::Bid, &BID),
        _ => {
            let near = millstream_proto::spec::did_you_mean(name, ["event_type", "person", "auction", "bid"]);
            wrong(format!(
                "nexmark has no column `{name}`{near} (known: event_type, person, auction, bid)"
            ));
            return None;
        }
    };
    let DataType::Struct(fields) = field.data_type() else {
        let members: Vec<String> = known
            .iter()
            .map(|(name, leaf)| format!("{name} {}", leaf.sql()))
            .collect();
        wrong(format!("the column `{name}` must be ROW<{}>", members.join(", ")));
        return None;
    };
    let mut members = Vec::with_capacity(fields.len());
    for field in fields {
        match known.iter().position(|(known, _)| known == field.name()) {
            None => {
                let near = millstream_proto::spec::did_you_mean(field.name(), known.iter().map(|(known, _)| *known));
                wrong(format!("nexmark's `{name}` has no field `{}`{near}", field.name()));
            }
            Some(index) if !known[index].1.fits(field.data_type()) => {
                wrong(format!(
                    "the field `{name}.{}` must be {}",
                    field.name(),
                    known[index].1.sql()
                ));
            }
            Some(index) => members.push(index),
        }
    }
    Some(Column {
        kind,
        fields: fields.clone(),
        members,
    })
}
