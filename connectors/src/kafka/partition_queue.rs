//! The queue of one partition's fetched records.
//!
//! All unsafe code of the Kafka source is in this module. A queue belongs to a client and must not outlive it, which
//! the `Arc` in it ensures. A message is owned until it is dropped.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::Waker;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;

use super::client_context::Context;
use crate::Error;

/// The queue of one partition, separate from the consumer's common queue.
pub(super) struct PartitionQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    topic: CString,
    partition: i32,
    /// Called by threads of librdkafka until the queue is dropped; boxed for a stable address.
    _waker: Box<Waker>,
    consumer: Arc<BaseConsumer<Context>>,
    /// Buffer for the messages of one call.
    scratch: Vec<*mut sys::rd_kafka_message_t>,
}

// SAFETY: librdkafka's queues may be used from any thread; the pointers in `scratch` are only there during a call.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Opens the queue of a partition that is not assigned yet. `waker` is woken when records arrive.
    pub(super) fn new(
        consumer: Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: i32,
        waker: Waker,
    ) -> Result<Self, Error> {
        let name = CString::new(topic).map_err(|_| Error::Invalid(format!("`{topic}` is not a topic's name")))?;
        // SAFETY: the client and the name live during the call.
        let queue =
            unsafe { sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), name.as_ptr(), partition) };
        let queue = NonNull::new(queue)
            .ok_or_else(|| Error::Unavailable(format!("Kafka: cannot open the partition {topic}-{partition}")))?;
        let waker = Box::new(waker);
        let opaque = ptr::from_ref::<Waker>(&waker).cast_mut().cast::<c_void>();
        // SAFETY: the queue was just made; `opaque` lives until `drop` disables the callback.
        unsafe {
            sys::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            sys::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), opaque);
        }
        Ok(Self {
            queue,
            topic: name,
            partition,
            _waker: waker,
            consumer,
            scratch: Vec::new(),
        })
    }

    /// Moves up to `max` records from the queue to `messages`. Never blocks.
    pub(super) fn take(&mut self, max: usize, messages: &mut Vec<FetchedMessage>) -> Result<(), Error> {
        self.take_within(max, 0, messages)
    }

    /// Moves up to `max` records from the queue to `messages`, and waits for the first for `timeout_ms` at most.
    pub(super) fn take_within(
        &mut self,
        max: usize,
        timeout_ms: i32,
        messages: &mut Vec<FetchedMessage>,
    ) -> Result<(), Error> {
        self.scratch.resize(max, ptr::null_mut());
        // SAFETY: there is room for `max` pointers; each one returned is a message that is ours to destroy.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                timeout_ms,
                self.scratch.as_mut_ptr(),
                self.scratch.len(),
            )
        };
        let count = usize::try_from(count).map_err(|_| {
            Error::Unavailable(format!(
                "Kafka: cannot read {}-{}",
                self.topic.to_string_lossy(),
                self.partition
            ))
        })?;
        messages.extend(
            self.scratch[..count]
                .iter()
                .filter_map(|&message| NonNull::new(message))
                .map(FetchedMessage),
        );
        Ok(())
    }

    /// Returns the first offset and the end offset of the partition as of the last fetch; `None` before it.
    pub(super) fn known_offsets(&self) -> Option<(i64, i64)> {
        let (mut low, mut high) = (-1i64, -1i64);
        // SAFETY: the client lives; the name and both numbers live during the call.
        let result = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                self.topic.as_ptr(),
                self.partition,
                &raw mut low,
                &raw mut high,
            )
        };
        (result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is ours; after the first call no callback sees the waker.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

unsafe extern "C" fn wake(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the boxed waker of a queue that lives, see `PartitionQueue::new`.
    unsafe { &*opaque.cast::<Waker>() }.wake_by_ref();
}

/// A record or an event of a partition.
pub(super) struct FetchedMessage(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a message is not tied to a thread.
unsafe impl Send for FetchedMessage {}

impl FetchedMessage {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the message lives until it is dropped.
        unsafe { self.0.as_ref() }
    }

    /// Returns the code of an event; `NO_ERROR` for a record.
    pub(super) fn error(&self) -> RDKafkaRespErr {
        self.raw().err
    }

    /// Returns the description of an event.
    pub(super) fn error_text(&self) -> String {
        // SAFETY: the text belongs to the message or is static.
        let text = unsafe { sys::rd_kafka_message_errstr(self.0.as_ptr()) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: librdkafka's texts end in zero.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// Returns the offset of a record.
    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Returns the value of a record; `None` for a tombstone.
    pub(super) fn payload(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka keeps `len` bytes there as long as the message lives.
        (!raw.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) })
    }

    /// Returns the key of a record.
    pub(super) fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: as for the payload.
        (!raw.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) })
    }

    /// Returns the timestamp of a record in milliseconds since 1970, and Flink's name of its type.
    pub(super) fn timestamp(&self) -> (Option<i64>, &'static str) {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, `kind` lives during the call.
        let milliseconds = unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        let kind = match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => "CreateTime",
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => "LogAppendTime",
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => "NoTimestampType",
        };
        ((milliseconds >= 0).then_some(milliseconds), kind)
    }

    /// Calls `each` with every header's name and value.
    pub(super) fn headers(&self, mut each: impl FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message.
        let result = unsafe { sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        if result != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0usize);
            // SAFETY: the headers live with the message; the three places live during the call.
            let result =
                unsafe { sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
            if result != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: a header's name ends in zero, and its value is `size` bytes.
            let (name, value) = unsafe {
                let value: Option<&[u8]> =
                    (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
                (CStr::from_ptr(name).to_string_lossy(), value)
            };
            each(&name, value);
        }
    }
}

impl Drop for FetchedMessage {
    fn drop(&mut self) {
        // SAFETY: the message is ours, and dropped once.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}
