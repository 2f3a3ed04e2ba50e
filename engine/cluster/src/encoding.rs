//! Encoding of the engine's own structures between processes of the same version.

use millstream_proto::v1;
use millstream_runtime::element::BarrierNumber;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Largest message; decoding refuses encoded lengths above it.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Encodes a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| Error::Failed(format!("a message could not be encoded: {error}")))
}

/// Decodes a value. `what` names the message in the error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    let (value, length) =
        bincode::serde::decode_from_slice(bytes, bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>())
            .map_err(|error| Error::Failed(format!("{what} does not decode: {error}")))?;
    if length != bytes.len() {
        return Err(Error::Failed(format!(
            "{what} does not decode: {} bytes too many",
            bytes.len() - length
        )));
    }
    Ok(value)
}

/// Returns the message for the number of a barrier.
pub(crate) fn barrier_number_message(number: BarrierNumber) -> v1::BarrierNumber {
    v1::BarrierNumber {
        checkpoint: number.checkpoint,
        point: number.point,
    }
}

/// Returns the number of a barrier from its message. An absent message is that of zeros, as in the encoding.
pub(crate) fn barrier_number(message: Option<v1::BarrierNumber>) -> BarrierNumber {
    let v1::BarrierNumber { checkpoint, point } = message.unwrap_or_default();
    BarrierNumber { checkpoint, point }
}
