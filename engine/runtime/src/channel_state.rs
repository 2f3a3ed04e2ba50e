//! Channel state: the rows that the barriers of an unaligned checkpoint have overtaken, as part of the checkpoint.
//!
//! A task that has waited for the `aligned_timeout` takes its snapshot before all barriers have arrived (Chandy and
//! Lamport, 1985). The rows that were in its input channels then, and those that arrive on each channel before its
//! barrier does, are channel state; so are the rows in the queue of a sink that has not accepted them
//! ([`crate::task`]). A restore delivers them, channel by channel and in order, before any new rows
//! (`deployment/channel_state.rs`).
//!
//! Barriers, watermarks, idleness and the end of input are not stored, because their senders send them again. Restoring
//! a watermark would even be wrong: it holds for the splits that its source subtask read at the time. After a restore
//! the subtask may read other splits, whose rows would be late.
//!
//! Layout of the file, version 1: the version byte, then bincode of [`Stored`]. Consecutive rows are one Arrow IPC
//! stream. Files of earlier engines contain watermarks and idleness between the rows, which are ignored.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use crate::Error;
use crate::operator::Timestamp;

const VERSION: u8 = 1;

/// The sending end of a channel.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Origin {
    /// Id of the sending operator, and its port unless that is the main one.
    pub from: String,
    /// Position of the edge among those that lead to the receiving operator.
    pub edge_position: usize,
    /// Names of the rows' columns.
    pub columns: Vec<String>,
    /// The sending subtask.
    pub subtask: usize,
}

/// The overtaken rows of one channel, oldest first.
#[derive(Debug)]
pub(crate) struct RecordedChannel {
    pub origin: Origin,
    /// The receiving operator's input.
    pub input: usize,
    pub rows: Vec<RecordBatch>,
}

/// The channel state of one subtask of one operator.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// Parallelism of the job.
    pub parallelism: usize,
    /// Rows in the input channels of a task, which belong to the first operator of its chain.
    pub channels: Vec<RecordedChannel>,
    /// Rows in the queue of a sink that it had not accepted. They come after all rows it has written, and before those
    /// in `channels`.
    pub queued: Vec<RecordBatch>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    parallelism: usize,
    channels: Vec<StoredChannel>,
    waiting: Vec<StoredElement>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredChannel {
    origin: Origin,
    input: usize,
    elements: Vec<StoredElement>,
}

#[derive(serde::Serialize, serde::Deserialize)]
enum StoredElement {
    Rows(Vec<u8>),
    /// Written by earlier engines.
    Watermark(Timestamp),
    /// Written by earlier engines.
    Idle,
}

impl ChannelState {
    /// Returns true if there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.channels.iter().all(|channel| channel.rows.is_empty())
    }

    /// Encodes the channel state as the content of a file.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let channels = self.channels.iter().map(|channel| {
            Ok(StoredChannel {
                origin: channel.origin.clone(),
                input: channel.input,
                elements: store(&channel.rows)?,
            })
        });
        let stored = Stored {
            parallelism: self.parallelism,
            channels: channels.collect::<Result<_, Error>>()?,
            waiting: store(&self.queued)?,
        };
        let mut bytes = vec![VERSION];
        bincode::serde::encode_into_std_write(&stored, &mut bytes, bincode::config::standard())
            .map_err(|error| invalid(format!("the channel state cannot be encoded: {error}")))?;
        Ok(bytes)
    }

    /// Decodes the content of a file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Some((&VERSION, rest)) = bytes.split_first() else {
            return Err(invalid(format!(
                "the channel state in the checkpoint is not of version {VERSION}, which this engine reads"
            )));
        };
        let (stored, _): (Stored, usize) = bincode::serde::decode_from_slice(rest, bincode::config::standard())
            .map_err(|error| {
                invalid(format!(
                    "the channel state in the checkpoint cannot be decoded: {error}"
                ))
            })?;
        let channels = stored.channels.into_iter().map(|channel| {
            Ok(RecordedChannel {
                origin: channel.origin,
                input: channel.input,
                rows: load(channel.elements)?,
            })
        });
        Ok(Self {
            parallelism: stored.parallelism,
            channels: channels.collect::<Result<_, Error>>()?,
            queued: load(stored.waiting)?,
        })
    }
}

fn store(rows: &[RecordBatch]) -> Result<Vec<StoredElement>, Error> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let mut writer = StreamWriter::try_new(Vec::new(), first.schema_ref())?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(vec![StoredElement::Rows(writer.into_inner()?)])
}

fn load(stored: Vec<StoredElement>) -> Result<Vec<RecordBatch>, Error> {
    let mut rows = Vec::new();
    for stored in stored {
        match stored {
            StoredElement::Rows(ipc) => {
                for batch in StreamReader::try_new(ipc.as_slice(), None)? {
                    rows.push(batch?);
                }
            }
            StoredElement::Watermark(_) | StoredElement::Idle => {}
        }
    }
    Ok(rows)
}

fn invalid(message: String) -> Error {
    Error::Operator {
        operator: "restore".to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn channel_state_is_decoded_as_it_was_encoded() {
        let column = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
        let sent = vec![batch.slice(1, 2), batch.clone(), batch.slice(2, 1)];
        let channel = |subtask, rows| RecordedChannel {
            origin: Origin {
                from: "calc".into(),
                edge_position: 1,
                columns: vec!["n".into()],
                subtask,
            },
            input: 2,
            rows,
        };
        let channel_state = ChannelState {
            parallelism: 3,
            channels: vec![channel(7, sent), channel(9, Vec::new())],
            queued: vec![batch.clone(), batch.slice(0, 1)],
        };
        let bytes = channel_state.encode().expect("is written");
        let back = ChannelState::decode(&bytes).expect("is read");
        assert!(!back.is_empty());
        assert_eq!(back.queued, channel_state.queued);
        assert_eq!(back.parallelism, 3);
        let [first, second] = back.channels.as_slice() else {
            panic!("{back:?}");
        };
        assert_eq!((&first.origin, first.input), (&channel_state.channels[0].origin, 2));
        assert_eq!(first.rows, channel_state.channels[0].rows);
        assert_eq!((second.origin.subtask, second.rows.len()), (9, 0));
        assert!(ChannelState::decode(&bytes[1..]).is_err());
        assert!(ChannelState::decode(&bytes[..bytes.len() / 2]).is_err());
    }

    #[test]
    fn watermarks_of_earlier_engines_are_not_restored() {
        let column = Arc::new(Int64Array::from(vec![1, 2])) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
        let rows = |batch: &RecordBatch| store(std::slice::from_ref(batch)).expect("are written");
        let mut elements = rows(&batch);
        elements.extend([StoredElement::Watermark(i64::MAX), StoredElement::Idle]);
        elements.extend(rows(&batch.slice(1, 1)));
        let origin = Origin {
            from: "source".into(),
            edge_position: 0,
            columns: vec!["n".into()],
            subtask: 0,
        };
        let stored = Stored {
            parallelism: 1,
            channels: vec![StoredChannel {
                origin,
                input: 0,
                elements,
            }],
            waiting: Vec::new(),
        };
        let mut bytes = vec![VERSION];
        bytes.extend(bincode::serde::encode_to_vec(&stored, bincode::config::standard()).expect("is written"));
        let back = ChannelState::decode(&bytes).expect("is read");
        assert_eq!(back.channels[0].rows, [batch.clone(), batch.slice(1, 1)]);
    }
}
