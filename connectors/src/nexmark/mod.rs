//! The event generator of the Nexmark benchmark: people, their auctions and the bids on them, with the proportions, hot
//! keys, texts and sizes of the official generator. Events are generated column by column.
//!
//! Event number `n` is a pure function of the options and `n`: same seed, same events, at any parallelism and after
//! any restart. The sequence of events is divided into epochs (one round of the proportions: by default 1 person, 3
//! auctions, 46 bids), and the epochs are assigned round-robin to a fixed number of splits, so that all subtasks stay
//! close in event time.
//!
//! Options have the names of the official connector; options that it does not have start with `nexmark.`.

mod batch;
mod config;
mod random;
mod schema;
mod source;
mod text;

use std::sync::Arc;

use crate::options::option;
use crate::source::Source;
use crate::{Connector, Error, OptionDescription, OptionEffect, OptionError, OptionKind, Role, Split, TableDefinition};

use self::config::Config;
use self::schema::Columns;
use self::source::NexmarkSource;

/// The connector `nexmark`.
pub struct Nexmark;

const OPTIONS: &[OptionDescription] = &[
    option(
        "events.num",
        OptionKind::Integer,
        Some("0"),
        "How many events to generate; 0 never ends.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "first-event.rate",
        OptionKind::Integer,
        Some("10000"),
        "Events per second of event time.",
    ),
    option(
        "next-event.rate",
        OptionKind::Integer,
        Some("10000"),
        "Events per second of event time; must equal first-event.rate (rates that change over time are not offered).",
    ),
    option(
        "rate.shape",
        OptionKind::Text,
        None,
        "Accepted as in Flink; without effect at a constant rate.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "rate.period",
        OptionKind::Duration,
        None,
        "Accepted as in Flink; without effect at a constant rate.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "rate.limited",
        OptionKind::Boolean,
        Some("false"),
        "Flink's name for nexmark.pace.",
    ),
    option(
        "max-emit-speed",
        OptionKind::Boolean,
        Some("true"),
        "'false' is Flink's other name for nexmark.pace.",
    ),
    option("person.proportion", OptionKind::Integer, Some("1"), "People per epoch."),
    option(
        "auction.proportion",
        OptionKind::Integer,
        Some("3"),
        "Auctions per epoch.",
    ),
    option("bid.proportion", OptionKind::Integer, Some("46"), "Bids per epoch."),
    option(
        "bid.hot-ratio.auctions",
        OptionKind::Integer,
        Some("2"),
        "All but one in this many bids go to a hot auction.",
    ),
    option(
        "bid.hot-ratio.bidders",
        OptionKind::Integer,
        Some("4"),
        "All but one in this many bids come from a hot bidder.",
    ),
    option(
        "auction.hot-ratio.sellers",
        OptionKind::Integer,
        Some("4"),
        "All but one in this many auctions are a hot seller's.",
    ),
    option(
        "person.avg-size",
        OptionKind::Bytes,
        Some("200b"),
        "Average size of a person, padding included.",
    ),
    option(
        "auction.avg-size",
        OptionKind::Bytes,
        Some("500b"),
        "Average size of an auction, padding included.",
    ),
    option(
        "bid.avg-size",
        OptionKind::Bytes,
        Some("100b"),
        "Average size of a bid, padding included.",
    ),
    option(
        "seed",
        OptionKind::Integer,
        Some("0"),
        "Another seed gives other events; the same gives the same.",
    ),
    option(
        "nexmark.start-time",
        OptionKind::Text,
        Some("2015-07-15T00:00:00Z"),
        "Event time of the first event, or `now`: the wall clock when the job first starts.",
    ),
    option(
        "nexmark.pace",
        OptionKind::Boolean,
        Some("false"),
        "Emit each event when the wall clock reaches its event time (counted from the job's start, unless \
         nexmark.start-time is `now`), instead of as fast as possible.",
    ),
    option(
        "nexmark.splits",
        OptionKind::Integer,
        None,
        "Into how many parts to deal the events; the highest useful parallelism. Default 16, fewer when paced.",
    ),
    option(
        "nexmark.out-of-order-group-size",
        OptionKind::Integer,
        Some("1"),
        "Shuffles event times inside groups of this many events.",
    ),
    option(
        "nexmark.pruning",
        OptionKind::Boolean,
        Some("false"),
        "Do not generate columns that the query does not read. Off by default, so that benchmarks are comparable.",
    )
    .with_effect(OptionEffect::Nothing),
];

impl Connector for Nexmark {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn help(&self) -> &'static str {
        "Generates the events of the Nexmark benchmark: people, auctions, bids."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        OPTIONS
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn validate(&self, table: &TableDefinition, _role: Role) -> Vec<OptionError> {
        let mut errors = Columns::check(&table.schema);
        errors.extend(Config::check(table));
        errors
    }

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        Config::of(table).is_ok_and(|config| config.events_max.is_some())
    }

    fn describe_position(&self, split: &Split) -> Option<String> {
        source::describe_position(split)
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let invalid = |error: OptionError| Error::Invalid(format!("table `{}`: {}", table.name, error.message));
        if let Some(error) = Columns::check(&table.schema).into_iter().next() {
            return Err(invalid(error));
        }
        let config = Config::of(table).map_err(|errors| match errors.into_iter().next() {
            Some(error) => invalid(error),
            None => Error::Invalid(format!("table `{}`: wrong options", table.name)),
        })?;
        Ok(Arc::new(NexmarkSource::new(config, table.schema.clone())))
    }
}
