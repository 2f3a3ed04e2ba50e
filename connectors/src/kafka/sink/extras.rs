//! Metadata columns of a sink: a record's timestamp, headers and raw key, written beside the encoded row.

use std::ffi::{CString, c_void};
use std::ptr;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaRespErr;

use super::Topic;
use crate::format::EncodedRecords;
use crate::{Error, TableDefinition};

/// Indices of the columns to write, in the rows that a writer is given.
pub struct Extras {
    timestamp: Option<usize>,
    headers: Option<usize>,
    key: Option<usize>,
}

impl Extras {
    pub fn of(table: &TableDefinition) -> Self {
        let column = |key: &str| {
            let metadata = table
                .metadata
                .iter()
                .find(|metadata| metadata.key == key && !metadata.is_virtual)?;
            table.schema.index_of(&metadata.column).ok()
        };
        Self {
            timestamp: column("timestamp"),
            headers: column("headers"),
            key: column("key"),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.timestamp.is_none() && self.headers.is_none() && self.key.is_none()
    }

    /// Queues one record for each row.
    pub fn produce(
        &self,
        topic: &Topic,
        rows: &RecordBatch,
        epoch: usize,
        values: &EncodedRecords,
        keys: Option<&EncodedRecords>,
        mut partition: impl FnMut() -> i32,
    ) -> Result<(), Error> {
        let column = |index: Option<usize>| index.and_then(|index| rows.columns().get(index));
        let times = match column(self.timestamp) {
            Some(times) => Some(arrow_cast::cast(
                times,
                &DataType::Timestamp(TimeUnit::Microsecond, None),
            )?),
            None => None,
        };
        let times = times
            .as_ref()
            .map(|times| times.as_primitive::<TimestampMicrosecondType>());
        let raw_keys = match column(self.key) {
            Some(keys) => Some(arrow_cast::cast(keys, &DataType::Binary)?),
            None => None,
        };
        for row in 0..values.len() {
            let raw_key = raw_keys.as_ref().map(|keys| keys.as_binary::<i32>());
            let key = match (keys, raw_key) {
                (Some(keys), _) => Some(keys.record(row)),
                (None, Some(keys)) => keys.is_valid(row).then(|| keys.value(row)),
                (None, None) => None,
            };
            let timestamp_ms = times
                .filter(|times| times.is_valid(row))
                .map_or(0, |times| times.value(row).div_euclid(1000));
            let headers = match column(self.headers) {
                Some(headers) => Headers::of(headers, row)?,
                None => None,
            };
            let record = Record {
                value: values.record(row),
                key,
                partition: partition(),
                timestamp_ms,
                epoch,
            };
            produce_one(topic, &record, headers)?;
        }
        Ok(())
    }
}

/// librdkafka's list of headers, ours until it is handed over.
struct Headers(*mut sys::rd_kafka_headers_t);

impl Headers {
    fn of(column: &ArrayRef, row: usize) -> Result<Option<Self>, Error> {
        let maps = column
            .as_map_opt()
            .ok_or_else(|| Error::Invalid("the metadata 'headers' must be MAP<STRING, BYTES>".into()))?;
        if maps.is_null(row) {
            return Ok(None);
        }
        let entries = maps.value(row);
        let names = arrow_cast::cast(entries.column(0), &DataType::Utf8)?;
        let values = arrow_cast::cast(entries.column(1), &DataType::Binary)?;
        let (names, values) = (names.as_string::<i32>(), values.as_binary::<i32>());
        // SAFETY: no argument is a pointer.
        let headers = Self(unsafe { sys::rd_kafka_headers_new(names.len()) });
        for entry in 0..names.len() {
            let name = CString::new(names.value(entry))
                .map_err(|_| Error::Data(format!("the header's name `{}` holds a zero byte", names.value(entry))))?;
            let (value, size) = if values.is_valid(entry) {
                let value = values.value(entry);
                (
                    value.as_ptr().cast::<c_void>(),
                    isize::try_from(value.len()).unwrap_or(isize::MAX),
                )
            } else {
                (ptr::null(), 0)
            };
            // SAFETY: name and value live during the call, which copies them.
            let code = unsafe { sys::rd_kafka_header_add(headers.0, name.as_ptr(), -1, value, size) };
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Error::Data(format!("the header `{}` was refused", names.value(entry))));
            }
        }
        Ok(Some(headers))
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: not handed over, so still ours.
        unsafe { sys::rd_kafka_headers_destroy(self.0) }
    }
}

struct Record<'a> {
    value: &'a [u8],
    key: Option<&'a [u8]>,
    partition: i32,
    /// 0: the time of sending.
    timestamp_ms: i64,
    epoch: usize,
}

fn produce_one(topic: &Topic, record: &Record<'_>, headers: Option<Headers>) -> Result<(), Error> {
    use sys::rd_kafka_vtype_t as Kind;
    let memory = |bytes: &[u8]| sys::rd_kafka_vu_s__bindgen_ty_1 {
        mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: bytes.as_ptr().cast_mut().cast::<c_void>(),
            size: bytes.len(),
        },
    };
    let argument = |vtype, u| sys::rd_kafka_vu_s { vtype, u };
    let mut arguments = vec![
        argument(
            Kind::RD_KAFKA_VTYPE_RKT,
            sys::rd_kafka_vu_s__bindgen_ty_1 {
                rkt: topic.handle.as_ptr(),
            },
        ),
        argument(
            Kind::RD_KAFKA_VTYPE_PARTITION,
            sys::rd_kafka_vu_s__bindgen_ty_1 { i32_: record.partition },
        ),
        argument(
            Kind::RD_KAFKA_VTYPE_MSGFLAGS,
            sys::rd_kafka_vu_s__bindgen_ty_1 {
                i: sys::RD_KAFKA_MSG_F_COPY,
            },
        ),
        argument(Kind::RD_KAFKA_VTYPE_VALUE, memory(record.value)),
        argument(
            Kind::RD_KAFKA_VTYPE_TIMESTAMP,
            sys::rd_kafka_vu_s__bindgen_ty_1 {
                i64_: record.timestamp_ms,
            },
        ),
        argument(
            Kind::RD_KAFKA_VTYPE_OPAQUE,
            sys::rd_kafka_vu_s__bindgen_ty_1 {
                ptr: ptr::without_provenance_mut(record.epoch),
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
    // SAFETY: all pointers live during the call, which copies value and key; headers are taken over on success only.
    let error = unsafe {
        sys::rd_kafka_produceva(
            rdkafka::producer::Producer::client(&topic.producer).native_ptr(),
            arguments.as_ptr(),
            arguments.len(),
        )
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
    Err(topic.refused(code, record.value.len()))
}
