//! What a barrier has overtaken: part of a checkpoint that did not wait for it.
//!
//! A task that has waited too long for a checkpoint's barriers takes its snapshot without them (Chandy and Lamport,
//! 1985). What was in its input channels then, and what still comes on each of them before the barrier does, is in
//! flight: the checkpoint keeps it, channel by channel and in order. So are rows that a sink had been given and did not
//! take, see [`crate::task`]. A restore delivers it before anything new (`deployment/in_flight.rs`). Barriers and the end of
//! input are not kept: whoever sends them says them again.
//!
//! Layout of the file, version 1: the version byte, then bincode of [`Stored`]. Rows that follow one another are one Arrow
//! IPC stream.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use crate::Error;
use crate::element::Element;
use crate::operator::Timestamp;

const VERSION: u8 = 1;

/// Whose rows come through a channel.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// The operator, and what it sends there.
    pub from: String,
    /// The place of the edge among those that lead to the receiving operator.
    pub place: usize,
    /// Names of the rows' columns.
    pub columns: Vec<String>,
    pub subtask: usize,
}

/// What was in flight on one channel, oldest first.
#[derive(Debug)]
pub struct Channel {
    pub origin: Origin,
    /// The receiving operator's input.
    pub input: usize,
    pub elements: Vec<Element>,
}

/// What was in flight to one subtask of one operator.
#[derive(Debug, Default)]
pub struct InFlight {
    /// Of the job.
    pub parallelism: usize,
    /// To the head of a chain.
    pub channels: Vec<Channel>,
    /// To a sink, wherever in a chain it is: what it had been given and did not take. Later than all it wrote, earlier
    /// than what is in `channels`.
    pub waiting: Vec<RecordBatch>,
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
    Watermark(Timestamp),
    Idle,
}

impl InFlight {
    /// No rows are. Watermarks alone need not be kept: after a restore they come from the sources again.
    pub fn is_empty(&self) -> bool {
        let mut elements = self.channels.iter().flat_map(|channel| &channel.elements);
        self.waiting.is_empty() && !elements.any(|element| matches!(element, Element::Batch(_)))
    }

    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let channels = self.channels.iter().map(|channel| {
            Ok(StoredChannel {
                origin: channel.origin.clone(),
                input: channel.input,
                elements: store(channel.elements.iter().cloned())?,
            })
        });
        let stored = Stored {
            parallelism: self.parallelism,
            channels: channels.collect::<Result<_, Error>>()?,
            waiting: store(self.waiting.iter().cloned().map(Element::Batch))?,
        };
        let mut bytes = vec![VERSION];
        bincode::serde::encode_into_std_write(&stored, &mut bytes, bincode::config::standard())
            .map_err(|error| invalid(format!("rows in flight cannot be written: {error}")))?;
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Some((&VERSION, rest)) = bytes.split_first() else {
            return Err(invalid(format!(
                "rows in flight in the checkpoint are not of version {VERSION}, which this engine reads"
            )));
        };
        let (stored, _): (Stored, usize) = bincode::serde::decode_from_slice(rest, bincode::config::standard())
            .map_err(|error| invalid(format!("rows in flight in the checkpoint cannot be read: {error}")))?;
        let channels = stored.channels.into_iter().map(|channel| {
            Ok(Channel {
                origin: channel.origin,
                input: channel.input,
                elements: load(channel.elements)?,
            })
        });
        let waiting = load(stored.waiting)?.into_iter().filter_map(|element| match element {
            Element::Batch(batch) => Some(batch),
            _ => None,
        });
        Ok(Self {
            parallelism: stored.parallelism,
            channels: channels.collect::<Result<_, Error>>()?,
            waiting: waiting.collect(),
        })
    }
}

fn store(elements: impl Iterator<Item = Element>) -> Result<Vec<StoredElement>, Error> {
    let mut stored = Vec::new();
    let mut rows: Option<StreamWriter<Vec<u8>>> = None;
    for element in elements {
        let other = match element {
            Element::Batch(batch) => {
                let writer = match &mut rows {
                    Some(writer) => writer,
                    None => rows.insert(StreamWriter::try_new(Vec::new(), batch.schema_ref())?),
                };
                writer.write(&batch)?;
                continue;
            }
            Element::Watermark(watermark) => StoredElement::Watermark(watermark),
            Element::Idle => StoredElement::Idle,
            Element::Barrier(_) | Element::End => continue,
        };
        if let Some(writer) = rows.take() {
            stored.push(StoredElement::Rows(writer.into_inner()?));
        }
        stored.push(other);
    }
    if let Some(writer) = rows {
        stored.push(StoredElement::Rows(writer.into_inner()?));
    }
    Ok(stored)
}

fn load(stored: Vec<StoredElement>) -> Result<Vec<Element>, Error> {
    let mut elements = Vec::with_capacity(stored.len());
    for stored in stored {
        match stored {
            StoredElement::Rows(ipc) => {
                for batch in StreamReader::try_new(ipc.as_slice(), None)? {
                    elements.push(Element::Batch(batch?));
                }
            }
            StoredElement::Watermark(watermark) => elements.push(Element::Watermark(watermark)),
            StoredElement::Idle => elements.push(Element::Idle),
        }
    }
    Ok(elements)
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
    fn what_was_in_flight_reads_back() {
        let column = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
        let sent = vec![
            Element::Batch(batch.slice(1, 2)),
            Element::Watermark(-5),
            Element::Idle,
            Element::Batch(batch.clone()),
            Element::Batch(batch.slice(2, 1)),
        ];
        let channel = |subtask, elements| Channel {
            origin: Origin {
                from: "calc".into(),
                place: 1,
                columns: vec!["n".into()],
                subtask,
            },
            input: 2,
            elements,
        };
        let in_flight = InFlight {
            parallelism: 3,
            channels: vec![channel(7, sent), channel(9, Vec::new())],
            waiting: vec![batch.clone(), batch.slice(0, 1)],
        };
        let bytes = in_flight.encode().expect("is written");
        let back = InFlight::decode(&bytes).expect("is read");
        assert!(!back.is_empty());
        assert_eq!(back.waiting, in_flight.waiting);
        assert_eq!(back.parallelism, 3);
        let [first, second] = back.channels.as_slice() else {
            panic!("{back:?}");
        };
        assert_eq!((&first.origin, first.input), (&in_flight.channels[0].origin, 2));
        assert_eq!((second.origin.subtask, second.elements.len()), (9, 0));
        let elements = &first.elements;
        let [
            Element::Batch(first),
            Element::Watermark(-5),
            Element::Idle,
            Element::Batch(second),
            Element::Batch(third),
        ] = elements.as_slice()
        else {
            panic!("{elements:?}");
        };
        assert_eq!((first, second, third), (&batch.slice(1, 2), &batch, &batch.slice(2, 1)));
        assert!(InFlight::decode(&bytes[1..]).is_err());
        assert!(InFlight::decode(&bytes[..bytes.len() / 2]).is_err());
    }
}
