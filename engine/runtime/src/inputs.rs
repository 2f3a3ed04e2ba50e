//! The inputs of a task: which channel is read next, and what its elements mean for the task as a whole.
//!
//! Channels are read in turn, those that are held back by alignment left out. Watermarks are merged and barriers
//! aligned here, so the first operator of the chain sees one stream per input.
//!
//! When a checkpoint's barrier overtakes what is in the channels, that is taken out of them ([`Inputs::drain`]), so that
//! whoever sends has room to bring the barrier; it is recorded, and then read in its order like everything else. Both
//! are bounded: what is taken out by [`OVERTAKEN_BYTES_MAX`], what is recorded by [`RECORDED_BYTES_MAX`].

use std::collections::VecDeque;

use arrow_array::RecordBatch;

use crate::alignment::Alignment;
use crate::channel::Receiver;
use crate::channel_state::{Origin, RecordedChannel};
use crate::element::{Barrier, Element, batch_bytes};
use crate::operator::Timestamp;
use crate::watermark::{Change, Merge};

/// Bytes of overtaken rows that one task takes out of its channels, but at least twice what a channel holds of each
/// (what a channel between workers holds at both ends); more wait until some of these are processed.
pub const OVERTAKEN_BYTES_MAX: usize = 64 << 20;
/// Bytes of overtaken rows that one task records for a checkpoint, which comes to nothing if there are more.
pub const RECORDED_BYTES_MAX: usize = 256 << 20;

/// The inputs of a task that does not read a source.
pub struct Inputs {
    channels: Vec<Input>,
    alignment: Alignment,
    merge: Merge,
    /// Whose turn it is.
    next: usize,
    aligning_since: Option<Timestamp>,
    alignment_us: u64,
    /// The checkpoint whose barrier has overtaken elements that are being recorded.
    recording: Option<u64>,
}

/// What came of recording what a barrier has overtaken.
#[derive(Debug)]
pub enum RecordingResult {
    Complete(Vec<RecordedChannel>),
    /// More than [`RECORDED_BYTES_MAX`].
    TooLarge,
}

/// One channel and the operator's input that it feeds.
pub struct Input {
    channel: Receiver,
    origin: Origin,
    input: usize,
    /// Taken out of the channel and not read yet; what a restored checkpoint had in flight comes first.
    buffered: VecDeque<Element>,
    buffered_bytes: usize,
    record: Recording,
    record_bytes: usize,
}

/// What one channel had in flight.
enum Recording {
    None,
    /// The barrier has not come.
    Open(Vec<RecordBatch>),
    Complete(Vec<RecordBatch>),
}

impl Input {
    pub fn new(origin: Origin, channel: Receiver, input: usize, restored: Vec<RecordBatch>) -> Self {
        Self {
            channel,
            origin,
            input,
            buffered_bytes: restored.iter().map(batch_bytes).sum(),
            buffered: restored.into_iter().map(Element::Batch).collect(),
            record: Recording::None,
            record_bytes: 0,
        }
    }

    /// The next element in order.
    fn pop(&mut self, recording: Option<u64>) -> Option<Element> {
        if self.buffered.is_empty()
            && let (Recording::Open(_), Some(checkpoint)) = (&self.record, recording)
        {
            self.drain(checkpoint, 1);
        }
        match self.buffered.pop_front() {
            Some(element) => {
                self.buffered_bytes -= bytes_of(&element);
                Some(element)
            }
            None => self.channel.pop(),
        }
    }

    /// What is here already is in flight, up to the barrier.
    fn start_record(&mut self, checkpoint: u64) {
        self.record = Recording::Open(Vec::new());
        self.record_bytes = 0;
        self.buffered_bytes = 0;
        for element in std::mem::take(&mut self.buffered) {
            self.take(element, checkpoint);
        }
    }

    /// Takes elements out of the channel until the barrier comes or so many bytes are ahead.
    fn drain(&mut self, checkpoint: u64, bytes_max: usize) {
        while matches!(self.record, Recording::Open(_)) && self.buffered_bytes < bytes_max {
            match self.channel.pop() {
                Some(element) => self.take(element, checkpoint),
                None => return,
            }
        }
    }

    fn take(&mut self, element: Element, checkpoint: u64) {
        let bytes = bytes_of(&element);
        if let Recording::Open(record) = &mut self.record {
            match &element {
                // Nothing before this was cut after it.
                Element::Barrier(barrier) if barrier.checkpoint == checkpoint => {
                    self.record = Recording::Complete(std::mem::take(record));
                    return;
                }
                Element::End => self.record = Recording::Complete(std::mem::take(record)),
                Element::Batch(batch) => {
                    self.record_bytes += bytes;
                    record.push(batch.clone());
                }
                // Whoever sends them says them again after a restore.
                Element::Barrier(_) | Element::Watermark(_) | Element::Idle => {}
            }
        }
        self.buffered_bytes += bytes;
        self.buffered.push_back(element);
    }
}

fn bytes_of(element: &Element) -> usize {
    match element {
        Element::Batch(batch) => batch_bytes(batch),
        _ => 1,
    }
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
            recording: None,
        }
    }

    /// All inputs have delivered the end: no barrier will come.
    pub fn have_ended(&self) -> bool {
        self.alignment.all_ended()
    }

    /// The checkpoint is cut now: what is in the channels before its barrier is in flight. Answers whether it is; if
    /// not, a later checkpoint is on its way here.
    pub fn overtake(&mut self, barrier: Barrier, now: Timestamp) -> bool {
        let Some(missing) = self.alignment.overtake(barrier) else {
            return false;
        };
        if let Some(since) = self.aligning_since.take() {
            self.alignment_us += now.saturating_sub(since).max(0) as u64;
        }
        self.stop_recording();
        self.recording = Some(barrier.checkpoint);
        for index in missing {
            self.channels[index].start_record(barrier.checkpoint);
        }
        self.drain();
        true
    }

    /// Takes what was overtaken out of the channels, so that the barrier can come.
    pub fn drain(&mut self) {
        let Some(checkpoint) = self.recording else { return };
        let share = OVERTAKEN_BYTES_MAX / self.channels.len().max(1);
        for channel in &mut self.channels {
            channel.drain(checkpoint, share.max(2 * channel.channel.bytes_max()));
        }
    }

    /// What was in flight when the checkpoint was cut, once it is known.
    pub fn take_record(&mut self) -> Option<RecordingResult> {
        self.recording?;
        if self.channels.iter().map(|channel| channel.record_bytes).sum::<usize>() > RECORDED_BYTES_MAX {
            self.stop_recording();
            return Some(RecordingResult::TooLarge);
        }
        if self
            .channels
            .iter()
            .any(|channel| matches!(channel.record, Recording::Open(_)))
        {
            return None;
        }
        let channels = self.channels.iter_mut().filter_map(|channel| {
            match std::mem::replace(&mut channel.record, Recording::None) {
                Recording::Complete(rows) => Some(RecordedChannel {
                    origin: channel.origin.clone(),
                    input: channel.input,
                    rows,
                }),
                _ => None,
            }
        });
        let channels = channels.collect();
        self.stop_recording();
        Some(RecordingResult::Complete(channels))
    }

    /// A later checkpoint was asked for: nobody waits for those before it any more.
    pub fn abort_before(&mut self, checkpoint: u64) {
        self.alignment.abort_before(checkpoint);
        if !self.alignment.is_aligning() {
            self.aligning_since = None;
        }
        if self.recording.is_some_and(|recording| recording < checkpoint) {
            self.stop_recording();
        }
    }

    fn stop_recording(&mut self) {
        self.recording = None;
        for channel in &mut self.channels {
            channel.record = Recording::None;
            channel.record_bytes = 0;
        }
    }

    /// Reads one element and hands on what it means: none, one or several elements, each with the operator's input.
    /// Answers whether there was one.
    pub fn read(&mut self, now: Timestamp, mut deliver: impl FnMut(usize, Element)) -> bool {
        let (count, recording) = (self.channels.len(), self.recording);
        let found = (0..count).find_map(|offset| {
            let index = (self.next + offset) % count;
            if !self.alignment.is_readable(index) {
                return None;
            }
            Some((index, self.channels[index].pop(recording)?))
        });
        let Some((index, element)) = found else {
            return false;
        };
        self.next = (index + 1) % count;
        match element {
            Element::Batch(batch) => {
                let change = self.merge.on_rows(index);
                deliver_change(change, &mut deliver);
                deliver(self.channels[index].input, Element::Batch(batch));
            }
            Element::Watermark(watermark) => deliver_change(self.merge.on_watermark(index, watermark), &mut deliver),
            Element::Idle => deliver_change(self.merge.on_idle(index), &mut deliver),
            Element::Barrier(barrier) => {
                let aligned = self.alignment.on_barrier(index, barrier);
                self.on_aligned(aligned, now, &mut deliver);
            }
            Element::End => {
                deliver_change(self.merge.on_end(index), &mut deliver);
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

fn deliver_change(change: Change, deliver: &mut impl FnMut(usize, Element)) {
    match change {
        Change::Nothing => {}
        Change::Watermark(watermark) => deliver(0, Element::Watermark(watermark)),
        Change::Idle(watermark) => {
            if let Some(watermark) = watermark {
                deliver(0, Element::Watermark(watermark));
            }
            deliver(0, Element::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::channel::{Sender, channel};

    const BARRIER: Barrier = Barrier {
        checkpoint: 1,
        last: false,
    };

    fn row(number: i64) -> Element {
        let column = Arc::new(Int64Array::from(vec![number])) as _;
        Element::Batch(RecordBatch::try_from_iter([("n", column)]).expect("one column"))
    }

    fn number(element: &Element) -> Option<i64> {
        match element {
            Element::Batch(batch) => Some(number_of(batch)),
            _ => None,
        }
    }

    fn number_of(batch: &RecordBatch) -> i64 {
        batch.column(0).as_primitive::<Int64Type>().value(0)
    }

    proptest! {
        /// Each channel sends rows, a barrier, rows. At some moment the barrier overtakes; sending and reading go on
        /// in any order. What was read before the cut and what was recorded are the rows before the barrier, and
        /// everything is read in the order in which it was sent. A second task that is given the record reads it first.
        #[test]
        fn what_is_overtaken_is_recorded_once_and_read_in_order(
            before in prop::collection::vec(0i64..6, 1..4),
            after in 0i64..4,
            unaligned_at in 0usize..40,
            choices in prop::collection::vec(0usize..64, 60..61),
        ) {
            let count = before.len();
            let (mut senders, mut channels) = (Vec::new(), Vec::new());
            for (index, rows) in before.iter().enumerate() {
                let (sender, receiver) = channel(1 << 20, Waker::noop().clone(), Waker::noop().clone());
                let of = |number: i64| row(index as i64 * 1_000 + number);
                let mut script: VecDeque<Element> = (0..*rows).map(of).collect();
                script.push_back(Element::Barrier(BARRIER));
                script.extend((*rows..rows + after).map(of));
                senders.push((sender, script));
                channels.push(Input::new(origin(index), receiver, 0, Vec::new()));
            }
            let mut inputs = Inputs::new(channels);
            let mut read: Vec<Vec<i64>> = vec![Vec::new(); count];
            let mut cut: Option<Vec<Vec<i64>>> = None;
            let mut record = None;
            let mut choices = choices.into_iter().cycle();
            let send = |senders: &mut Vec<(Sender, VecDeque<Element>)>, index: usize| {
                let (sender, script) = &mut senders[index];
                if let Some(element) = script.pop_front() {
                    sender.send(element);
                }
            };
            for step in 0..400 {
                let choice = choices.next().unwrap_or(0);
                // At last everything is sent.
                if choice % 2 == 0 || step > 200 {
                    send(&mut senders, choice % count);
                    send(&mut senders, step % count);
                }
                if step == unaligned_at && cut.is_none() {
                    prop_assert!(inputs.overtake(BARRIER, 0));
                    cut = Some(read.clone());
                }
                let mut aligned = false;
                if choice % 3 != 0 || step > 200 {
                    inputs.read(0, |_, element| match number(&element) {
                        Some(number) => read[(number / 1_000) as usize].push(number % 1_000),
                        None => aligned |= matches!(element, Element::Barrier(_)),
                    });
                }
                if aligned {
                    prop_assert!(cut.is_none(), "cut twice");
                    cut = Some(read.clone());
                    record = Some(Vec::new());
                }
                inputs.drain();
                if let Some(RecordingResult::Complete(whole)) = inputs.take_record() {
                    prop_assert!(record.is_none());
                    record = Some(whole);
                }
            }
            let cut = cut.expect("the barriers have all come");
            let record = record.expect("the record is whole");
            for index in 0..count {
                let all: Vec<i64> = (0..before[index] + after).collect();
                prop_assert_eq!(&read[index], &all);
                let recorded = record.iter().find(|channel| channel.origin.subtask == index);
                let recorded = recorded.map_or(&[][..], |channel| &channel.rows);
                let recorded = recorded.iter().map(|batch| number_of(batch) % 1_000);
                let both: Vec<i64> = cut[index].iter().copied().chain(recorded).collect();
                prop_assert_eq!(both, (0..before[index]).collect::<Vec<_>>());
            }
            for recorded in record {
                let (sender, receiver) = channel_of_one();
                let expected: Vec<i64> = recorded.rows.iter().map(number_of).chain([7]).collect();
                let mut again = Inputs::new(vec![Input::new(recorded.origin, receiver, 0, recorded.rows)]);
                sender.send(row(7));
                let mut got = Vec::new();
                while again.read(0, |_, element| got.extend(number(&element))) {}
                prop_assert_eq!(got, expected);
            }
        }
    }

    fn origin(subtask: usize) -> Origin {
        Origin {
            from: "sender".into(),
            place: 0,
            columns: vec!["n".into()],
            subtask,
        }
    }

    fn channel_of_one() -> (Sender, Receiver) {
        channel(1 << 20, Waker::noop().clone(), Waker::noop().clone())
    }
}
