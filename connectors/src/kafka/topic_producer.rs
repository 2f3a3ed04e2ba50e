//! Production of records to one topic.
//!
//! All unsafe code of the Kafka sink is in this module.

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaRespErr;

use super::client_context::Context;
use super::error_code;
use crate::Error;

/// The partition of records for which the partitioner decides.
pub(super) const PARTITION_UNASSIGNED: i32 = -1;

/// A record to produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Partition, or [`PARTITION_UNASSIGNED`].
    pub partition: i32,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970; 0 for the time of production.
    pub timestamp_ms: i64,
    /// Headers.
    pub headers: &'a [Header],
}

/// A header's name and value.
pub(super) type Header = (String, Option<Vec<u8>>);

/// Policy for a full queue of librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueFullPolicy {
    /// Return an error. For slot threads, which bound the records in flight.
    Refuse,
    /// Wait for space, which there is at the latest when records in the queue time out.
    Wait,
}

impl QueueFullPolicy {
    fn flag(self) -> i32 {
        match self {
            Self::Refuse => 0,
            Self::Wait => sys::RD_KAFKA_MSG_F_BLOCK,
        }
    }
}

/// Waits until all queued records were delivered or have failed, for `timeout` at most.
///
/// Unlike [`Producer::flush`], it returns with the last delivery report, and records are sent without lingering.
/// `Producer::flush` asks repeatedly, and waits up to 100 ms in between for a delivery report, which the producer's own
/// thread may have taken.
pub(super) fn flush(producer: &ThreadedProducer<Context>, timeout: Duration) -> Result<(), KafkaError> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives during the call. The producer's thread serves the queue of delivery reports.
    match unsafe { sys::rd_kafka_flush(producer.client().native_ptr(), timeout_ms) } {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(KafkaError::Flush(code.into())),
    }
}

/// A buffer for the messages of one call, for reuse.
#[derive(Default)]
pub(super) struct Batch {
    messages: Vec<sys::rd_kafka_message_t>,
}

// SAFETY: the messages, which hold pointers, are there only during a call.
unsafe impl Send for Batch {}

/// A producer of records to one topic, by librdkafka's handle.
pub(super) struct TopicProducer {
    handle: NonNull<sys::rd_kafka_topic_t>,
    /// Name of the topic.
    pub name: String,
    /// The producer. Outlives the handle, because fields are dropped after `TopicProducer::drop`.
    pub producer: ThreadedProducer<Context>,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for TopicProducer {}

impl TopicProducer {
    /// Opens a topic.
    pub(super) fn new(producer: ThreadedProducer<Context>, name: &str) -> Result<Self, Error> {
        let text = CString::new(name).map_err(|_| Error::Invalid(format!("`{name}` is not a topic's name")))?;
        // SAFETY: the client and the name live during the call; a null configuration means the client's.
        let handle = unsafe { sys::rd_kafka_topic_new(producer.client().native_ptr(), text.as_ptr(), ptr::null_mut()) };
        let handle =
            NonNull::new(handle).ok_or_else(|| Error::Invalid(format!("Kafka: `{name}` is not a topic's name")))?;
        Ok(Self {
            handle,
            name: name.to_string(),
            producer,
        })
    }

    /// Queues records without timestamps and headers in one call. Their bytes are copied. An error is that of the first
    /// record refused.
    pub(super) fn produce_batch<'r>(
        &self,
        batch: &mut Batch,
        records: impl Iterator<Item = Record<'r>>,
        epoch: usize,
        queue_full: QueueFullPolicy,
    ) -> Result<(), Error> {
        batch.messages.clear();
        batch.messages.extend(records.map(|record| sys::rd_kafka_message_t {
            err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: record.partition,
            payload: record.value.map_or(ptr::null_mut(), as_pointer),
            len: record.value.map_or(0, <[u8]>::len),
            key: record.key.map_or(ptr::null_mut(), as_pointer),
            key_len: record.key.map_or(0, <[u8]>::len),
            offset: 0,
            _private: ptr::without_provenance_mut(epoch),
        }));
        let result = self.produce_messages(&mut batch.messages, queue_full);
        batch.messages.clear();
        result
    }

    fn produce_messages(
        &self,
        messages: &mut [sys::rd_kafka_message_t],
        queue_full: QueueFullPolicy,
    ) -> Result<(), Error> {
        let count = i32::try_from(messages.len())
            .map_err(|_| Error::Invalid("Kafka: more than 2^31 records in one batch".into()))?;
        let flags = sys::RD_KAFKA_MSG_F_COPY | sys::RD_KAFKA_MSG_F_PARTITION | queue_full.flag();
        // SAFETY: payloads and keys live during the call, which copies them.
        let queued = unsafe {
            sys::rd_kafka_produce_batch(
                self.handle.as_ptr(),
                PARTITION_UNASSIGNED,
                flags,
                messages.as_mut_ptr(),
                count,
            )
        };
        if queued == count {
            return Ok(());
        }
        let refused = messages
            .iter()
            .find(|message| message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        Err(match refused {
            Some(message) => self.refused(message.err, message.len),
            None => self.refused(RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL, 0),
        })
    }

    /// Queues one record; its bytes are copied.
    pub(super) fn produce(&self, record: &Record<'_>, epoch: usize, queue_full: QueueFullPolicy) -> Result<(), Error> {
        use sys::rd_kafka_vtype_t as Kind;
        let memory = |bytes: &[u8]| sys::rd_kafka_vu_s__bindgen_ty_1 {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: bytes.as_ptr().cast_mut().cast::<c_void>(),
                size: bytes.len(),
            },
        };
        let nothing = || sys::rd_kafka_vu_s__bindgen_ty_1 {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: ptr::null_mut(),
                size: 0,
            },
        };
        let headers = match record.headers {
            [] => None,
            headers => Some(Headers::of(headers)?),
        };
        let argument = |vtype, u| sys::rd_kafka_vu_s { vtype, u };
        let mut arguments = vec![
            argument(
                Kind::RD_KAFKA_VTYPE_RKT,
                sys::rd_kafka_vu_s__bindgen_ty_1 {
                    rkt: self.handle.as_ptr(),
                },
            ),
            argument(
                Kind::RD_KAFKA_VTYPE_PARTITION,
                sys::rd_kafka_vu_s__bindgen_ty_1 { i32_: record.partition },
            ),
            argument(
                Kind::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::rd_kafka_vu_s__bindgen_ty_1 {
                    i: sys::RD_KAFKA_MSG_F_COPY | queue_full.flag(),
                },
            ),
            argument(Kind::RD_KAFKA_VTYPE_VALUE, record.value.map_or_else(nothing, memory)),
            argument(
                Kind::RD_KAFKA_VTYPE_TIMESTAMP,
                sys::rd_kafka_vu_s__bindgen_ty_1 {
                    i64_: record.timestamp_ms,
                },
            ),
            argument(
                Kind::RD_KAFKA_VTYPE_OPAQUE,
                sys::rd_kafka_vu_s__bindgen_ty_1 {
                    ptr: ptr::without_provenance_mut(epoch),
                },
            ),
        ];
        if let Some(key) = record.key {
            arguments.push(argument(Kind::RD_KAFKA_VTYPE_KEY, memory(key)));
        }
        if let Some(headers) = &headers {
            arguments.push(argument(
                Kind::RD_KAFKA_VTYPE_HEADERS,
                sys::rd_kafka_vu_s__bindgen_ty_1 { headers: headers.0 },
            ));
        }
        // SAFETY: all pointers live during the call, which copies value and key; headers are taken over on success
        // only.
        let error = unsafe {
            sys::rd_kafka_produceva(self.producer.client().native_ptr(), arguments.as_ptr(), arguments.len())
        };
        if error.is_null() {
            std::mem::forget(headers);
            return Ok(());
        }
        // SAFETY: the error is ours, read and then destroyed.
        let code = unsafe {
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            code
        };
        Err(self.refused(code, record.value.map_or(0, <[u8]>::len)))
    }

    /// Returns the error of a record that librdkafka does not accept.
    fn refused(&self, code: RDKafkaRespErr, bytes: usize) -> Error {
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE {
            return Error::Data(format!(
                "Kafka topic `{}`: a row of {bytes} bytes is larger than 'properties.message.max.bytes' allows",
                self.name
            ));
        }
        let error = rdkafka::error::RDKafkaErrorCode::from(code);
        error_code::error(
            Some(error),
            format!("Kafka topic `{}`: a row was not accepted: {error}", self.name),
        )
    }
}

impl Drop for TopicProducer {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and the client still lives.
        unsafe { sys::rd_kafka_topic_destroy(self.handle.as_ptr()) }
    }
}

fn as_pointer(bytes: &[u8]) -> *mut c_void {
    bytes.as_ptr().cast_mut().cast::<c_void>()
}

/// A list of headers, owned until librdkafka takes it over.
struct Headers(*mut sys::rd_kafka_headers_t);

impl Headers {
    fn of(headers: &[Header]) -> Result<Self, Error> {
        // SAFETY: no argument is a pointer.
        let list = Self(unsafe { sys::rd_kafka_headers_new(headers.len()) });
        for (name, value) in headers {
            let text = CString::new(name.as_str()).map_err(|_| header_name_error(name))?;
            let (value, size) = match value {
                Some(value) => (
                    value.as_ptr().cast::<c_void>(),
                    isize::try_from(value.len()).unwrap_or(isize::MAX),
                ),
                None => (ptr::null(), 0),
            };
            // SAFETY: name and value live during the call, which copies them.
            let code = unsafe { sys::rd_kafka_header_add(list.0, text.as_ptr(), -1, value, size) };
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Error::Data(format!("the header `{name}` was refused")));
            }
        }
        Ok(list)
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: not handed over, so still ours.
        unsafe { sys::rd_kafka_headers_destroy(self.0) }
    }
}

/// Returns the error of a header whose name librdkafka cannot represent, because its strings end with a zero byte.
pub(super) fn header_name_error(name: &str) -> Error {
    Error::Data(format!("the name of the header `{name}` contains a zero byte"))
}
