//! Decoding of frames to batches.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use millstream_proto::v1;

/// The decoder of one channel: an Arrow IPC stream states the schema only once.
#[derive(Default)]
pub struct FrameDecoder {
    stream: StreamDecoder,
}

impl FrameDecoder {
    /// Decodes a frame. Invalid bytes are an error, after which the stream cannot be used.
    pub fn decode(&mut self, batch: v1::Batch) -> Result<RecordBatch, String> {
        if batch.starts_stream {
            self.stream = StreamDecoder::new();
        }
        let mut buffer = Buffer::from(batch.ipc);
        // The decoder trusts some of the lengths that it reads.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let mut decoded = None;
            while !buffer.is_empty() {
                if let Some(rows) = self.stream.decode(&mut buffer)? {
                    decoded = Some(rows);
                }
            }
            Ok::<_, arrow_schema::ArrowError>(decoded)
        }));
        match decoded {
            Ok(Ok(Some(rows))) => Ok(rows),
            Ok(Ok(None)) => Err("it sent a frame without a batch".into()),
            Ok(Err(error)) => Err(format!("it sent a batch that does not decode: {error}")),
            Err(_) => Err("it sent a batch that does not decode".into()),
        }
    }
}
