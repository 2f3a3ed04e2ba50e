//! The inputs of a task: which channel is read next, and what its elements mean for the task as a whole.
//!
//! Channels are read in turn, those that are held back by alignment left out. Watermarks are merged and barriers
//! aligned here, so the first operator of the chain sees one stream per input.

use crate::alignment::Alignment;
use crate::channel::Receiver;
use crate::element::{Barrier, Element};
use crate::operator::Timestamp;
use crate::watermark::{Change, Merge};

/// The inputs of a task that does not read a source.
pub struct Inputs {
    channels: Vec<Input>,
    alignment: Alignment,
    merge: Merge,
    /// Whose turn it is.
    next: usize,
    aligning_since: Option<Timestamp>,
    alignment_us: u64,
}

/// One channel and the operator's input that it feeds.
pub struct Input {
    pub channel: Receiver,
    pub input: usize,
}

impl Inputs {
    pub fn new(channels: Vec<Input>) -> Self {
        Self {
            alignment: Alignment::new(channels.len()),
            merge: Merge::new(channels.len()),
            channels,
            next: 0,
            aligning_since: None,
            alignment_us: 0,
        }
    }

    /// Reads one element and hands on what it means: none, one or several elements, each with the operator's input.
    /// Answers whether there was one.
    pub fn read(&mut self, now: Timestamp, mut deliver: impl FnMut(usize, Element)) -> bool {
        let count = self.channels.len();
        let found = (0..count).find_map(|offset| {
            let index = (self.next + offset) % count;
            if !self.alignment.is_readable(index) {
                return None;
            }
            Some((index, self.channels[index].channel.pop()?))
        });
        let Some((index, element)) = found else {
            return false;
        };
        self.next = (index + 1) % count;
        match element {
            Element::Batch(batch) => {
                let change = self.merge.on_rows(index);
                tell(change, &mut deliver);
                deliver(self.channels[index].input, Element::Batch(batch));
            }
            Element::Watermark(watermark) => tell(self.merge.on_watermark(index, watermark), &mut deliver),
            Element::Idle => tell(self.merge.on_idle(index), &mut deliver),
            Element::Barrier(barrier) => {
                let aligned = self.alignment.on_barrier(index, barrier);
                self.on_aligned(aligned, now, &mut deliver);
            }
            Element::End => {
                tell(self.merge.on_end(index), &mut deliver);
                let aligned = self.alignment.on_end(index);
                self.on_aligned(aligned, now, &mut deliver);
                if self.alignment.all_ended() {
                    deliver(0, Element::End);
                }
            }
        }
        true
    }

    fn on_aligned(&mut self, aligned: Option<Barrier>, now: Timestamp, deliver: &mut impl FnMut(usize, Element)) {
        match aligned {
            Some(barrier) => {
                let since = self.aligning_since.take().unwrap_or(now);
                self.alignment_us += now.saturating_sub(since).max(0) as u64;
                deliver(0, Element::Barrier(barrier));
            }
            None if self.alignment.is_aligning() => {
                self.aligning_since.get_or_insert(now);
            }
            None => {}
        }
    }

    /// Microseconds spent aligning since this was last asked.
    pub fn take_alignment_us(&mut self) -> u64 {
        std::mem::take(&mut self.alignment_us)
    }
}

fn tell(change: Change, deliver: &mut impl FnMut(usize, Element)) {
    match change {
        Change::Nothing => {}
        Change::Watermark(watermark) => deliver(0, Element::Watermark(watermark)),
        Change::Idle => deliver(0, Element::Idle),
    }
}
