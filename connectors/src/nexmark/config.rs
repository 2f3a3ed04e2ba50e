//! The options of the generator, validated and converted to its units.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::options::Options;
use crate::{Error, OptionError, TableDefinition};

const START_TIME_DEFAULT_US: i64 = 1_436_918_400_000_000;
const SPLITS_DEFAULT: u64 = 16;
/// Interval of the epochs of a paced split, about a millisecond, which bounds the number of splits: with more splits
/// the watermark of each would lag behind the clock.
const PACED_RATE_PER_SPLIT: u64 = 50_000;
pub(super) const EPOCH_EVENTS_MAX: u64 = 10_000;
const AVERAGE_SIZE_MAX: u64 = 60_000;

#[derive(Debug, Clone)]
pub(super) struct Config {
    pub seed: u64,
    pub persons: u64,
    pub auctions: u64,
    pub bids: u64,
    /// Events per second of event time.
    pub rate: u64,
    pub hot_auctions: u32,
    pub hot_bidders: u32,
    pub hot_sellers: u32,
    pub person_bytes: usize,
    pub auction_bytes: usize,
    pub bid_bytes: usize,
    pub out_of_order_group: u64,
    pub events_max: Option<u64>,
    pub start: StartTime,
    pub is_paced: bool,
    pub is_pruned: bool,
    pub splits: u64,
}

/// Event time of event 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartTime {
    AtUs(i64),
    /// The wall clock when the job first starts.
    Now,
}

impl Config {
    pub(super) fn of(table: &TableDefinition) -> Result<Self, Vec<OptionError>> {
        let reader = OptionsReader {
            options: Options::of(table),
            errors: Vec::new(),
        };
        reader.config()
    }

    pub(super) fn check(table: &TableDefinition) -> Vec<OptionError> {
        Self::of(table).err().unwrap_or_default()
    }

    /// Events in one round of the proportions.
    pub(super) fn epoch_events(&self) -> u64 {
        self.persons + self.auctions + self.bids
    }

    /// Microseconds of event time from event 0 to this one, and the rest in `1/rate` microseconds.
    pub(super) fn elapsed(&self, event: u64) -> (i64, u64) {
        match event.checked_mul(1_000_000) {
            Some(scaled) => ((scaled / self.rate) as i64, scaled % self.rate),
            None => {
                let scaled = u128::from(event) * 1_000_000;
                let rate = u128::from(self.rate);
                ((scaled / rate) as i64, (scaled % rate) as u64)
            }
        }
    }
}

/// Reads options and collects all mistakes.
struct OptionsReader<'a> {
    options: Options<'a>,
    errors: Vec<OptionError>,
}

impl OptionsReader<'_> {
    fn config(mut self) -> Result<Config, Vec<OptionError>> {
        let rate = self.rate();
        let is_paced = self.boolean("nexmark.pace", false)
            || self.boolean("rate.limited", false)
            || !self.boolean("max-emit-speed", true);
        let splits_default = if is_paced {
            (rate / PACED_RATE_PER_SPLIT).clamp(1, SPLITS_DEFAULT)
        } else {
            SPLITS_DEFAULT
        };
        let events_max = self.number("events.num", 0, 0, i64::MAX as u64 / 2_000_000);
        let config = Config {
            seed: self.seed(),
            persons: self.number("person.proportion", 1, 1, EPOCH_EVENTS_MAX / 3),
            auctions: self.number("auction.proportion", 3, 1, EPOCH_EVENTS_MAX / 3),
            bids: self.number("bid.proportion", 46, 0, EPOCH_EVENTS_MAX / 3),
            rate,
            hot_auctions: self.number("bid.hot-ratio.auctions", 2, 1, u64::from(u32::MAX)) as u32,
            hot_bidders: self.number("bid.hot-ratio.bidders", 4, 1, u64::from(u32::MAX)) as u32,
            hot_sellers: self.number("auction.hot-ratio.sellers", 4, 1, u64::from(u32::MAX)) as u32,
            person_bytes: self.size("person.avg-size", 200),
            auction_bytes: self.size("auction.avg-size", 500),
            bid_bytes: self.size("bid.avg-size", 100),
            out_of_order_group: self.number("nexmark.out-of-order-group-size", 1, 1, 1_000_000),
            events_max: (events_max > 0).then_some(events_max),
            start: self.start_time(),
            is_paced,
            is_pruned: self.boolean("nexmark.pruning", false),
            splits: self.number("nexmark.splits", splits_default, 1, 1024),
        };
        if self.errors.is_empty() {
            Ok(config)
        } else {
            Err(self.errors)
        }
    }

    fn add_error(&mut self, option: &str, message: String) {
        self.errors.push(OptionError::new(option, message));
    }

    fn value_or_default<T>(&mut self, option: &str, value: Result<Option<T>, Error>, default: T) -> T {
        match value {
            Ok(value) => value.unwrap_or(default),
            Err(error) => {
                self.add_error(option, error.to_string());
                default
            }
        }
    }

    fn boolean(&mut self, option: &str, default: bool) -> bool {
        let value = self.options.boolean(option);
        self.value_or_default(option, value, default)
    }

    fn number(&mut self, option: &str, default: u64, min: u64, max: u64) -> u64 {
        let value = self.options.count(option);
        let value = self.value_or_default(option, value, default);
        if value < min || value > max {
            self.add_error(
                option,
                format!("'{option}' is {value}; it must be between {min} and {max}"),
            );
        }
        value
    }

    fn size(&mut self, option: &str, default: u64) -> usize {
        let value = self.options.bytes(option);
        let value = self.value_or_default(option, value, default);
        if value > AVERAGE_SIZE_MAX {
            self.add_error(
                option,
                format!("'{option}' is {value} bytes; at most {AVERAGE_SIZE_MAX} are possible"),
            );
        }
        value as usize
    }

    fn seed(&mut self) -> u64 {
        let value = self.options.integer("seed");
        self.value_or_default("seed", value, 0) as u64
    }

    fn rate(&mut self) -> u64 {
        let given = |name: &str| self.options.text(name).is_some();
        let (first_given, next_given) = (given("first-event.rate"), given("next-event.rate"));
        let first = self.number("first-event.rate", 10_000, 1, 1_000_000_000);
        let next = self.number("next-event.rate", 10_000, 1, 1_000_000_000);
        if first_given && next_given && first != next {
            self.add_error(
                "next-event.rate",
                format!(
                    "'first-event.rate' is {first} and 'next-event.rate' is {next}; rates that change over time are \
                     not offered: write the same number for both"
                ),
            );
        }
        if first_given { first } else { next }
    }

    fn start_time(&mut self) -> StartTime {
        let Some(text) = self.options.text("nexmark.start-time") else {
            return StartTime::AtUs(START_TIME_DEFAULT_US);
        };
        if text.trim().eq_ignore_ascii_case("now") {
            return StartTime::Now;
        }
        match parse_time_us(text) {
            Some(us) => StartTime::AtUs(us),
            None => {
                let near = millstream_proto::spec::did_you_mean(text, ["now"]);
                self.add_error(
                    "nexmark.start-time",
                    format!("`{text}` is not a time{near}; write e.g. '2015-07-15T00:00:00Z', '2015-07-15 00:00:00' or 'now'"),
                );
                StartTime::AtUs(0)
            }
        }
    }
}

fn parse_time_us(text: &str) -> Option<i64> {
    let text = text.trim();
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_micros())
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|t| t.and_utc().timestamp_micros())
        })
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|t| t.and_utc().timestamp_micros())
        })
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map(|date| date.and_hms_opt(0, 0, 0).map_or(0, |t| t.and_utc().timestamp_micros()))
        })
        .ok()
}
