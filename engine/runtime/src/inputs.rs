//! The input channels of a task, merged into one stream per input of its first operator.
//!
//! Channels are read in turn, except those that alignment blocks. Watermarks are merged and barriers aligned here.
//!
//! When the barrier of an unaligned checkpoint overtakes the elements in the channels, these are moved out of the
//! channels into buffers ([`Inputs::drain`]), so that the senders have credit to send the barrier. The rows among them
//! are recorded as channel state, and all are read from the buffers in their order. [`OVERTAKEN_BYTES_MAX`] bounds the
//! buffers, and [`RECORDED_BYTES_MAX`] the channel state.

use std::collections::VecDeque;

use arrow_array::RecordBatch;

use crate::alignment::Alignment;
use crate::channel::Receiver;
use crate::channel_state::{Origin, RecordedChannel};
use crate::element::{Barrier, BarrierNumber, Element, batch_bytes};
use crate::operator::Timestamp;
use crate::watermark::{Change, Merge};

/// Bytes of overtaken rows that one task buffers, but at least twice the capacity of each channel (a channel between
/// workers has that much at both ends). Further rows stay in the channels until some of these are processed.
pub(crate) const OVERTAKEN_BYTES_MAX: usize = 64 << 20;
/// Bytes of channel state that one task records for a checkpoint. A checkpoint with more fails.
pub(crate) const RECORDED_BYTES_MAX: usize = 256 << 20;

/// The inputs of a task that does not read a source.
pub(crate) struct Inputs {
    channels: Vec<Input>,
    alignment: Alignment,
    merge: Merge,
    /// The channel to read next.
    next: usize,
    aligning_since: Option<Timestamp>,
    alignment_us: u64,
    /// The unaligned checkpoint whose channel state is being recorded.
    recording: Option<u64>,
}

/// An element of the merged inputs, or the end of one of them.
#[derive(Debug)]
pub(crate) enum Delivery {
    Element(Element),
    /// All channels of the input have ended. Other inputs may continue.
    InputEnd,
}

/// The channel state that was recorded for an unaligned checkpoint.
#[derive(Debug)]
pub(crate) enum RecordingResult {
    Complete(Vec<RecordedChannel>),
    /// The rows exceed [`RECORDED_BYTES_MAX`].
    TooLarge,
}

/// One channel, and the input of the operator that it feeds.
pub(crate) struct Input {
    channel: Receiver,
    origin: Origin,
    input: usize,
    has_ended: bool,
    /// Elements that were taken out of the channel and not read yet. Restored channel state comes first.
    buffered: VecDeque<Element>,
    buffered_bytes: usize,
    record: Recording,
    record_bytes: usize,
}

/// The recording of one channel's state.
enum Recording {
    None,
    /// The barrier has not arrived.
    Open(Vec<RecordBatch>),
    Complete(Vec<RecordBatch>),
}

impl Input {
    /// Makes an input that delivers `restored` rows before those of the channel.
    pub(crate) fn new(origin: Origin, channel: Receiver, input: usize, restored: Vec<RecordBatch>) -> Self {
        Self {
            channel,
            origin,
            input,
            has_ended: false,
            buffered_bytes: restored.iter().map(batch_bytes).sum(),
            buffered: restored.into_iter().map(Element::Batch).collect(),
            record: Recording::None,
            record_bytes: 0,
        }
    }

    /// Takes the next element.
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

    /// Starts to record the rows before the barrier, beginning with those already buffered.
    fn start_record(&mut self, checkpoint: u64) {
        self.record = Recording::Open(Vec::new());
        self.record_bytes = 0;
        self.buffered_bytes = 0;
        for element in std::mem::take(&mut self.buffered) {
            self.take(element, checkpoint);
        }
    }

    /// Moves elements from the channel into the buffer, until the barrier arrives or `bytes_max` bytes are buffered.
    fn drain(&mut self, checkpoint: u64, bytes_max: usize) {
        while matches!(self.record, Recording::Open(_)) && self.buffered_bytes < bytes_max {
            match self.channel.pop() {
                Some(element) => self.take(element, checkpoint),
                None => return,
            }
        }
    }

    /// Appends an element to the buffer, and to the recording if it is a row before the barrier.
    fn take(&mut self, element: Element, checkpoint: u64) {
        let bytes = bytes_of(&element);
        if let Recording::Open(record) = &mut self.record {
            match &element {
                // The barrier itself is dropped: the task has taken its snapshot already.
                Element::Barrier(barrier) if barrier.checkpoint() == Some(checkpoint) => {
                    self.record = Recording::Complete(std::mem::take(record));
                    return;
                }
                Element::End => self.record = Recording::Complete(std::mem::take(record)),
                Element::Batch(batch) => {
                    self.record_bytes += bytes;
                    record.push(batch.clone());
                }
                // Senders send these again after a restore.
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
    pub(crate) fn new(channels: Vec<Input>) -> Self {
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

    /// Returns true if all channels have delivered the end, so no barrier will arrive.
    pub(crate) fn have_ended(&self) -> bool {
        self.alignment.all_ended()
    }

    /// Starts an unaligned checkpoint: the rows in the channels before its barrier become channel state. Returns false
    /// if a later checkpoint's barrier has arrived, because this one is aborted then.
    pub(crate) fn overtake(&mut self, barrier: Barrier, now: Timestamp) -> bool {
        let (Some(missing), Some(checkpoint)) = (self.alignment.overtake(barrier), barrier.checkpoint()) else {
            return false;
        };
        if let Some(since) = self.aligning_since.take() {
            self.alignment_us += now.saturating_sub(since).max(0) as u64;
        }
        self.stop_recording();
        self.recording = Some(checkpoint);
        for index in missing {
            self.channels[index].start_record(checkpoint);
        }
        self.drain();
        true
    }

    /// Moves overtaken elements from the channels into buffers, so that the barrier can arrive.
    pub(crate) fn drain(&mut self) {
        let Some(checkpoint) = self.recording else { return };
        let share = OVERTAKEN_BYTES_MAX / self.channels.len().max(1);
        for channel in &mut self.channels {
            channel.drain(checkpoint, share.max(2 * channel.channel.bytes_max()));
        }
    }

    /// Returns the recorded channel state, once the barrier has arrived on all channels or the limit is exceeded.
    pub(crate) fn take_record(&mut self) -> Option<RecordingResult> {
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

    /// Aborts all checkpoints and consistency points before this number.
    pub(crate) fn abort_before(&mut self, number: BarrierNumber) {
        self.alignment.abort_before(number);
        if !self.alignment.is_aligning() {
            self.aligning_since = None;
        }
        if self
            .recording
            .is_some_and(|recording| BarrierNumber::of_checkpoint(recording) < number)
        {
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

    /// Reads one element and delivers the elements that result from merging it with the other channels: none, one or
    /// several, each with the operator's input. Returns false if there was none to read.
    pub(crate) fn read(&mut self, now: Timestamp, mut receive: impl FnMut(usize, Delivery)) -> bool {
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
        let mut deliver = |input: usize, element: Element| receive(input, Delivery::Element(element));
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
                let input = self.channels[index].input;
                self.channels[index].has_ended = true;
                let mut of_input = self.channels.iter().filter(|channel| channel.input == input);
                if of_input.all(|channel| channel.has_ended) {
                    receive(input, Delivery::InputEnd);
                }
                let mut deliver = |input: usize, element: Element| receive(input, Delivery::Element(element));
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

    /// Returns the microseconds spent aligning since the last call.
    pub(crate) fn take_alignment_us(&mut self) -> u64 {
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
        number: BarrierNumber {
            checkpoint: 1,
            point: 0,
        },
        last: false,
    };

    fn row(number: i64) -> Element {
        let column = Arc::new(Int64Array::from(vec![number])) as _;
        Element::Batch(RecordBatch::try_from_iter([("n", column)]).expect("one column"))
    }

    fn number(delivery: &Delivery) -> Option<i64> {
        match delivery {
            Delivery::Element(Element::Batch(batch)) => Some(number_of(batch)),
            Delivery::Element(_) | Delivery::InputEnd => None,
        }
    }

    fn number_of(batch: &RecordBatch) -> i64 {
        batch.column(0).as_primitive::<Int64Type>().value(0)
    }

    proptest! {
        /// Each channel sends rows, a barrier, and more rows. At a random step the checkpoint becomes unaligned;
        /// sending and reading go on in random order. The rows read before the snapshot together with the recorded ones
        /// are the rows before the barrier, and all rows are read in the order in which they were sent. A second task
        /// that restores the recorded rows reads them first.
        #[test]
        fn overtaken_rows_are_recorded_once_and_read_in_order(
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
                // In the end everything is sent.
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
                        None => aligned |= matches!(element, Delivery::Element(Element::Barrier(_))),
                    });
                }
                if aligned {
                    prop_assert!(cut.is_none(), "two snapshots");
                    cut = Some(read.clone());
                    record = Some(Vec::new());
                }
                inputs.drain();
                if let Some(RecordingResult::Complete(whole)) = inputs.take_record() {
                    prop_assert!(record.is_none());
                    record = Some(whole);
                }
            }
            let cut = cut.expect("all barriers have arrived");
            let record = record.expect("the channel state is complete");
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
            edge_position: 0,
            columns: vec!["n".into()],
            subtask,
        }
    }

    fn channel_of_one() -> (Sender, Receiver) {
        channel(1 << 20, Waker::noop().clone(), Waker::noop().clone())
    }
}
