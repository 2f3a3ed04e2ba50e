//! Generation of batches of events, one kind of event at a time.
//!
//! A batch is a list of [`Segment`]s, pieces of epochs. Inside an epoch the kinds follow one another (people,
//! auctions, bids), so each kind is a loop without branches on the kind. An event is a row in which one of the three
//! struct columns is set; the children of the two others stay empty and share their parent's null bitmap.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef};

use super::config::Config;
use super::random::{Draws, Prices, scale};
use super::schema::{Column, Columns, Kind};
use super::text::{TextColumn, Texts};
use crate::Error;

const FIRST_PERSON_ID: i64 = 1000;
const FIRST_AUCTION_ID: i64 = 1000;
const FIRST_CATEGORY_ID: i64 = 10;
const CATEGORIES: u32 = 5;
/// One in this many people is hot; likewise for auctions.
const HOT_EVERY: i64 = 100;
/// Number of the latest people who bid and sell.
const ACTIVE_PEOPLE: i64 = 1000;
/// Number of ids ahead of the latest: some bidders, sellers and auctions are generated later.
const ID_LEAD: i64 = 10;
/// Number of auctions that are open at a time.
const AUCTIONS_IN_FLIGHT: i64 = 100;

/// The events `from..to` of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
}

impl Segment {
    pub(super) fn events(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Returns the part of this segment within `range` of the epoch; an empty range inside the segment if they are
    /// disjoint.
    fn part(&self, range: std::ops::Range<u64>) -> std::ops::Range<u64> {
        let from = range.start.clamp(self.from, self.to);
        from..range.end.clamp(from, self.to)
    }
}

pub(super) struct Generator {
    config: Config,
    texts: Texts,
    prices: Prices,
}

impl Generator {
    pub(super) fn new(config: Config) -> Self {
        Self {
            texts: Texts::new(config.seed),
            prices: Prices::new(),
            config,
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Generates the events of these segments, as the columns that `columns` delivers. Columns in `generate` are
    /// generated even if they are not delivered. Returns the size of the events too.
    pub(super) fn batch(
        &self,
        segments: &[Segment],
        start_us: i64,
        delivered: &Columns,
        generate: &[Column],
        schema: &SchemaRef,
    ) -> Result<(RecordBatch, u64), Error> {
        let rows: usize = segments.iter().map(Segment::events).sum();
        let mut bytes = 0;
        let made: Vec<(Kind, ArrayRef)> = generate
            .iter()
            .map(|column| {
                let array = match column.kind {
                    Kind::EventType => self.event_types(segments, rows),
                    Kind::Person => self.rows_of(column, self.people(segments, rows, start_us, &mut bytes)),
                    Kind::Auction => self.rows_of(column, self.auctions(segments, rows, start_us, &mut bytes)),
                    Kind::Bid => self.rows_of(column, self.bids(segments, rows, start_us, &mut bytes)),
                };
                (column.kind, array)
            })
            .collect();
        let columns = delivered
            .columns
            .iter()
            .filter_map(|column| {
                made.iter()
                    .find(|(kind, _)| *kind == column.kind)
                    .map(|(_, array)| array.clone())
            })
            .collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok((
            RecordBatch::try_new_with_options(schema.clone(), columns, &options)?,
            bytes,
        ))
    }

    fn event_types(&self, segments: &[Segment], rows: usize) -> ArrayRef {
        let mut values: Vec<i32> = Vec::with_capacity(rows);
        let (persons, auctions) = (self.config.persons, self.config.auctions);
        for segment in segments {
            for (kind, range) in [0..persons, persons..persons + auctions, persons + auctions..u64::MAX]
                .into_iter()
                .enumerate()
            {
                let part = segment.part(range);
                values.resize(values.len() + (part.end - part.start) as usize, kind as i32);
            }
        }
        Arc::new(Int32Array::new(values.into(), None))
    }

    /// Returns the struct array of the declared fields, out of all generated ones.
    fn rows_of(&self, column: &Column, (children, nulls): (Vec<ArrayRef>, NullBuffer)) -> ArrayRef {
        let arrays = column
            .fields
            .iter()
            .zip(&column.members)
            .map(|(field, &member)| match field.data_type() {
                DataType::Timestamp(_, Some(zone)) => with_zone(&children[member], zone),
                _ => children[member].clone(),
            })
            .collect();
        Arc::new(StructArray::new(column.fields.clone(), arrays, Some(nulls)))
    }

    /// Event times of consecutive events.
    fn clock(&self, start_us: i64, event: u64) -> Clock {
        let config = &self.config;
        let (elapsed_us, rest) = config.elapsed(event);
        Clock {
            us: start_us + elapsed_us,
            rest,
            step_us: (1_000_000 / config.rate) as i64,
            step_rest: 1_000_000 % config.rate,
            rate: config.rate,
            event,
            start_us,
        }
    }

    /// Returns the event time of the present event in whole milliseconds, and advances to the next event.
    #[inline]
    fn tick(&self, clock: &mut Clock) -> i64 {
        let us = match self.config.out_of_order_group {
            1 => clock.us,
            group => {
                let base = clock.event / group * group;
                let shuffled = base + (clock.event * 953) % group;
                clock.start_us + self.config.elapsed(shuffled).0
            }
        };
        clock.step();
        us.div_euclid(1000) * 1000
    }

    fn people(&self, segments: &[Segment], rows: usize, start_us: i64, bytes: &mut u64) -> (Vec<ArrayRef>, NullBuffer) {
        let config = &self.config;
        let expected = expected_rows(rows, config.persons, config.epoch_events());
        let mut present = Presence::new(rows);
        let (mut id, mut time) = (vec![0i64; rows], vec![0i64; rows]);
        let text = |each: usize| TextColumn::new(rows, expected * each);
        let (mut name, mut email, mut card, mut city, mut state, mut extra) = (
            text(16),
            text(20),
            text(20),
            text(14),
            text(2),
            text(config.person_bytes),
        );
        for segment in segments {
            let part = segment.part(0..config.persons);
            let mut row = present.skip_to(segment, &part);
            let skipped = (part.start - segment.from) as usize;
            let rest = (segment.to - part.end) as usize;
            let first = segment.epoch * config.epoch_events();
            let mut clock = self.clock(start_us, first + part.start);
            for column in [&mut name, &mut email, &mut card, &mut city, &mut state, &mut extra] {
                column.skip_rows(skipped);
            }
            for offset in part {
                let draws = &mut Draws::of(config.seed, first + offset);
                id[row] = (segment.epoch * config.persons + offset) as i64 + FIRST_PERSON_ID;
                time[row] = self.tick(&mut clock);
                let before = name.text_bytes() + email.text_bytes() + city.text_bytes() + state.text_bytes();
                name.name(draws);
                email.email(&self.texts, draws);
                card.credit_card(draws);
                city.city(draws);
                state.state(draws);
                let after = name.text_bytes() + email.text_bytes() + city.text_bytes() + state.text_bytes();
                let padding = padding(draws, 8 + 19 + after - before, config.person_bytes);
                extra.letters(&self.texts, draws.next() as u32, padding);
                for column in [&mut name, &mut email, &mut card, &mut city, &mut state, &mut extra] {
                    column.end_row();
                }
                row += 1;
            }
            for column in [&mut name, &mut email, &mut card, &mut city, &mut state, &mut extra] {
                column.skip_rows(rest);
            }
        }
        let (nulls, count) = present.finish();
        let texts = [&name, &email, &card, &city, &state, &extra];
        *bytes += 16 * count as u64 + texts.iter().map(|column| column.text_bytes() as u64).sum::<u64>();
        let some = Some(nulls.clone());
        let children: Vec<ArrayRef> = vec![
            numbers(id, &nulls),
            Arc::new(name.finish(some.clone())),
            Arc::new(email.finish(some.clone())),
            Arc::new(card.finish(some.clone())),
            Arc::new(city.finish(some.clone())),
            Arc::new(state.finish(some.clone())),
            times(time, &nulls),
            Arc::new(extra.finish(some)),
        ];
        (children, nulls)
    }

    fn auctions(
        &self,
        segments: &[Segment],
        rows: usize,
        start_us: i64,
        bytes: &mut u64,
    ) -> (Vec<ArrayRef>, NullBuffer) {
        let config = &self.config;
        let expected = expected_rows(rows, config.auctions, config.epoch_events());
        let mut present = Presence::new(rows);
        let [
            mut id,
            mut initial_bid,
            mut reserve,
            mut time,
            mut expires,
            mut seller,
            mut category,
        ] = std::array::from_fn(|_| vec![0i64; rows]);
        let text = |each: usize| TextColumn::new(rows, expected * each);
        let (mut item, mut description, mut extra) = (text(20), text(100), text(config.auction_bytes));
        let horizon_ms = self.auction_horizon_ms();
        for segment in segments {
            let part = segment.part(config.persons..config.persons + config.auctions);
            let mut row = present.skip_to(segment, &part);
            let skipped = (part.start - segment.from) as usize;
            let rest = (segment.to - part.end) as usize;
            let first = segment.epoch * config.epoch_events();
            let last_person = ((segment.epoch + 1) * config.persons) as i64 - 1;
            let hot_seller = last_person / HOT_EVERY * HOT_EVERY;
            let mut clock = self.clock(start_us, first + part.start);
            for column in [&mut item, &mut description, &mut extra] {
                column.skip_rows(skipped);
            }
            for offset in part {
                let draws = &mut Draws::of(config.seed, first + offset);
                let at = self.tick(&mut clock);
                let is_hot = draws.below(config.hot_sellers) > 0;
                let someone = active_person(draws.next() as u32, last_person);
                let opening = self.prices.price(draws.next() as u32);
                id[row] = (segment.epoch * config.auctions + offset - config.persons) as i64 + FIRST_AUCTION_ID;
                initial_bid[row] = opening;
                reserve[row] = opening + self.prices.price(draws.next() as u32);
                time[row] = at;
                expires[row] = at + 1000 * (1 + i64::from(draws.below(horizon_ms)));
                seller[row] = FIRST_PERSON_ID + if is_hot { hot_seller } else { someone };
                category[row] = FIRST_CATEGORY_ID + i64::from(draws.below(CATEGORIES));
                let before = item.text_bytes() + description.text_bytes();
                item.words(&self.texts, draws, 20);
                description.words(&self.texts, draws, 100);
                let words = item.text_bytes() + description.text_bytes() - before;
                let padding = padding(draws, 48 + words, config.auction_bytes);
                extra.letters(&self.texts, draws.next() as u32, padding);
                for column in [&mut item, &mut description, &mut extra] {
                    column.end_row();
                }
                row += 1;
            }
            for column in [&mut item, &mut description, &mut extra] {
                column.skip_rows(rest);
            }
        }
        let (nulls, count) = present.finish();
        let texts = [&item, &description, &extra];
        *bytes += 56 * count as u64 + texts.iter().map(|column| column.text_bytes() as u64).sum::<u64>();
        let some = Some(nulls.clone());
        let children: Vec<ArrayRef> = vec![
            numbers(id, &nulls),
            Arc::new(item.finish(some.clone())),
            Arc::new(description.finish(some.clone())),
            numbers(initial_bid, &nulls),
            numbers(reserve, &nulls),
            times(time, &nulls),
            times(expires, &nulls),
            numbers(seller, &nulls),
            numbers(category, &nulls),
            Arc::new(extra.finish(some)),
        ];
        (children, nulls)
    }

    /// Returns the duration of an auction: random, up to twice the time in which `AUCTIONS_IN_FLIGHT` others start.
    fn auction_horizon_ms(&self) -> u32 {
        let config = &self.config;
        let events = AUCTIONS_IN_FLIGHT as u64 * config.epoch_events() / config.auctions;
        let horizon_ms = config.elapsed(events).0 / 1000;
        u32::try_from(horizon_ms * 2).unwrap_or(u32::MAX).max(1)
    }

    fn bids(&self, segments: &[Segment], rows: usize, start_us: i64, bytes: &mut u64) -> (Vec<ArrayRef>, NullBuffer) {
        let config = &self.config;
        let expected = expected_rows(rows, config.bids, config.epoch_events());
        let mut present = Presence::new(rows);
        let [mut auction, mut bidder, mut price, mut time] = std::array::from_fn(|_| vec![0i64; rows]);
        let mut channel = TextColumn::new(rows, expected * 14);
        let mut url = TextColumn::new(rows, expected * 80);
        let mut extra = TextColumn::new(rows, expected * config.bid_bytes);
        let others = config.persons + config.auctions;
        for segment in segments {
            let part = segment.part(others..u64::MAX);
            let from = present.skip_to(segment, &part);
            let count = (part.end - part.start) as usize;
            let skipped = (part.start - segment.from) as usize;
            let first = segment.epoch * config.epoch_events();
            let last_person = ((segment.epoch + 1) * config.persons) as i64 - 1;
            let last_auction = ((segment.epoch + 1) * config.auctions) as i64 - 1;
            let oldest_auction = (last_auction - AUCTIONS_IN_FLIGHT).max(0);
            let open_auctions = (last_auction - oldest_auction + 1 + ID_LEAD) as u32;
            let hot_auction = FIRST_AUCTION_ID + last_auction / HOT_EVERY * HOT_EVERY;
            let hot_bidder = FIRST_PERSON_ID + last_person / HOT_EVERY * HOT_EVERY + 1;
            let mut clock = self.clock(start_us, first + part.start);
            for column in [&mut channel, &mut url, &mut extra] {
                column.skip_rows(skipped);
            }
            let columns = auction[from..from + count]
                .iter_mut()
                .zip(&mut bidder[from..from + count])
                .zip(&mut price[from..from + count])
                .zip(&mut time[from..from + count]);
            for (offset, (((auction, bidder), price), time)) in part.zip(columns) {
                let mut draws = Draws::of(config.seed, first + offset);
                let (which, who, what, padding_bits) = (draws.next(), draws.next(), draws.next(), draws.next());
                *auction = if scale(which as u32, config.hot_auctions) > 0 {
                    hot_auction
                } else {
                    FIRST_AUCTION_ID + oldest_auction + i64::from(scale((which >> 32) as u32, open_auctions))
                };
                *bidder = if scale(who as u32, config.hot_bidders) > 0 {
                    hot_bidder
                } else {
                    FIRST_PERSON_ID + active_person((who >> 32) as u32, last_person)
                };
                *price = self.prices.price(what as u32);
                *time = self.tick(&mut clock);
                let chosen = if what >> 63 == 1 {
                    self.texts.hot_channel((what >> 32) as u32)
                } else {
                    // Bit 63 is taken: the 31 bits below it choose.
                    self.texts.cold_channel((what >> 31) as u32)
                };
                channel.channel_name(&self.texts, chosen);
                channel.end_row();
                url.channel_url(&self.texts, chosen);
                url.end_row();
                let padding = padding_of(padding_bits as u32, 32, config.bid_bytes);
                extra.letters(&self.texts, (padding_bits >> 32) as u32, padding);
                extra.end_row();
            }
        }
        let (nulls, count) = present.finish();
        let texts = [&channel, &url, &extra];
        *bytes += 32 * count as u64 + texts.iter().map(|column| column.text_bytes() as u64).sum::<u64>();
        let some = Some(nulls.clone());
        let children: Vec<ArrayRef> = vec![
            numbers(auction, &nulls),
            numbers(bidder, &nulls),
            numbers(price, &nulls),
            Arc::new(channel.finish(some.clone())),
            Arc::new(url.finish(some.clone())),
            times(time, &nulls),
            Arc::new(extra.finish(some)),
        ];
        (children, nulls)
    }
}

/// The exact event time of consecutive events, without a division for each.
struct Clock {
    us: i64,
    /// Remainder of the division by `rate`.
    rest: u64,
    step_us: i64,
    step_rest: u64,
    rate: u64,
    event: u64,
    start_us: i64,
}

impl Clock {
    #[inline]
    fn step(&mut self) {
        self.us += self.step_us;
        self.rest += self.step_rest;
        self.event += 1;
        if self.rest >= self.rate {
            self.rest -= self.rate;
            self.us += 1;
        }
    }
}

/// The rows that have an event of one kind.
struct Presence {
    bits: BooleanBufferBuilder,
    count: usize,
}

impl Presence {
    fn new(rows: usize) -> Self {
        Self {
            bits: BooleanBufferBuilder::new(rows),
            count: 0,
        }
    }

    /// Adds a segment of which `part` is of this kind. Returns the first row of that part.
    fn skip_to(&mut self, segment: &Segment, part: &std::ops::Range<u64>) -> usize {
        self.bits.append_n((part.start - segment.from) as usize, false);
        let row = self.bits.len();
        let count = (part.end - part.start) as usize;
        self.bits.append_n(count, true);
        self.bits.append_n((segment.to - part.end) as usize, false);
        self.count += count;
        row
    }

    fn finish(mut self) -> (NullBuffer, usize) {
        (NullBuffer::new(self.bits.finish()), self.count)
    }
}

fn expected_rows(rows: usize, share: u64, whole: u64) -> usize {
    (rows as u64 * share / whole) as usize + share as usize
}

/// Returns one of the latest people, or one who is generated soon.
#[inline]
fn active_person(bits: u32, last_person: i64) -> i64 {
    let people = last_person + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + i64::from(scale(bits, (active + ID_LEAD) as u32))
}

fn padding(draws: &mut Draws, size: usize, average: usize) -> usize {
    padding_of(draws.next() as u32, size, average)
}

/// Returns the padding that brings an event of `size` bytes to `average`, plus or minus a fifth.
#[inline]
fn padding_of(bits: u32, size: usize, average: usize) -> usize {
    let Some(missing) = average.checked_sub(size) else {
        return 0;
    };
    let spread = (missing + 2) / 5;
    missing - spread + scale(bits, 2 * spread as u32) as usize
}

fn numbers(values: Vec<i64>, nulls: &NullBuffer) -> ArrayRef {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), Some(nulls.clone())))
}

fn times(values: Vec<i64>, nulls: &NullBuffer) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(
        ScalarBuffer::from(values),
        Some(nulls.clone()),
    ))
}

fn with_zone(times: &ArrayRef, zone: &Arc<str>) -> ArrayRef {
    use arrow_array::cast::AsArray;
    use arrow_array::types::TimestampMicrosecondType;
    Arc::new(
        times
            .as_primitive::<TimestampMicrosecondType>()
            .clone()
            .with_timezone(zone.clone()),
    )
}
