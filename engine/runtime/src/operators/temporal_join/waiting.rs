//! Left rows that wait until the watermark has reached their time.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow_array::RecordBatch;
use millstream_graph::Emission;
use millstream_state::store::StoredValues;

use crate::Error;
use crate::operator::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::operators::keyed::TimeRange;
use crate::operators::window_aggregate::micros;

/// Exponent of ranges of about a second.
const EXPONENT_OF_SECONDS: u32 = 12;
/// Number of ranges of one length before the first watermark.
const RANGES_PER_LENGTH: usize = 64;

/// Waiting rows: the ranges of their times, and those rows whose time has come.
#[derive(Default)]
pub(super) struct WaitingRows {
    /// By generation: the first time after its range, and the first time of its rows.
    ranges: BTreeMap<u32, (Timestamp, Timestamp)>,
    /// Rows that were removed from memory: their keys, and the rows.
    slots: Vec<u32>,
    rows: StoredValues,
    /// Rows that were read from the store.
    batches: Vec<RecordBatch>,
}

impl WaitingRows {
    /// Returns the generation of each row, by its time. In a batch, where the watermark does not advance, all rows are
    /// of one generation.
    pub(super) fn generations(
        &mut self,
        times: &ArrayRef,
        watermark: Timestamp,
        emission: Emission,
    ) -> Result<Vec<u32>, Error> {
        let (times, _) = micros(times)?;
        if emission == Emission::Final {
            if let Some(first) = times.iter().min() {
                self.add(0, Timestamp::MAX, *first);
            }
            return Ok(vec![0; times.len()]);
        }
        // Before the first watermark, the ranges of more distant times are longer, so that there are not too many.
        let first_exponent = EXPONENT_OF_SECONDS + (self.ranges.len() / RANGES_PER_LENGTH) as u32;
        let mut generations = Vec::with_capacity(times.len());
        let mut present: Option<(TimeRange, Timestamp)> = None;
        for time in times.iter().copied() {
            // Rows wait for about as long as they are ahead of the watermark.
            let range = match watermark {
                WATERMARK_MIN => TimeRange::of_exponent(first_exponent, time),
                watermark => TimeRange::new(watermark, time),
            };
            present = match present {
                Some((same, first)) if same == range => Some((range, first.min(time))),
                other => {
                    if let Some((range, first)) = other {
                        self.add(range.generation(), range.end(), first);
                    }
                    Some((range, time))
                }
            };
            generations.push(range.generation());
        }
        if let Some((range, first)) = present {
            self.add(range.generation(), range.end(), first);
        }
        Ok(generations)
    }

    fn add(&mut self, generation: u32, end: Timestamp, first: Timestamp) {
        let known = self.ranges.entry(generation).or_insert((end, first));
        *known = (known.0.max(end), known.1.min(first));
    }

    /// Returns the generations whose times the watermark has reached, and forgets them.
    pub(super) fn due(&mut self, watermark: Timestamp) -> Vec<u32> {
        let first_time = watermark.saturating_add(1);
        let due = self.ranges.iter().filter(|(_, (end, _))| *end <= first_time);
        let due: Vec<u32> = due.map(|(generation, _)| *generation).collect();
        for generation in &due {
            self.ranges.remove(generation);
        }
        due
    }

    /// Takes a row whose time has come.
    pub(super) fn take(&mut self, slot: u32, row: &[u8]) {
        self.slots.push(slot);
        self.rows.push(Some(row));
    }

    /// Takes rows that were read from the store.
    pub(super) fn push(&mut self, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.batches.push(rows);
        }
    }

    pub(super) fn take_batches(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.batches)
    }

    /// Returns the rows from memory: their keys, and the rows.
    pub(super) fn take_rows(&mut self) -> Option<(Vec<u32>, StoredValues)> {
        let slots = std::mem::take(&mut self.slots);
        (!slots.is_empty()).then(|| (slots, std::mem::take(&mut self.rows)))
    }

    /// Returns the watermark to forward: it stays behind the rows that wait.
    pub(super) fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        if watermark == WATERMARK_MAX {
            return watermark;
        }
        let first = self.ranges.values().map(|(_, first)| first.saturating_sub(1)).min();
        first.map_or(watermark, |first| first.min(watermark))
    }

    /// Returns the ranges for the manifest: each generation has two entries, its end and its first time.
    pub(super) fn inline(&self) -> Vec<(u8, u32, Timestamp)> {
        let ranges = self.ranges.iter();
        ranges
            .flat_map(|(generation, (end, first))| [(0, *generation, *end), (1, *generation, *first)])
            .collect()
    }

    pub(super) fn restore(&mut self, inline: &[(u8, u32, Timestamp)]) {
        for pair in inline.chunks_exact(2) {
            let [(_, generation, end), (_, _, first)] = [pair[0], pair[1]];
            self.add(generation, end, first);
        }
    }
}
