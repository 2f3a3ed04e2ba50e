//! Encoding of the engine's own structures between processes of the same version.

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
