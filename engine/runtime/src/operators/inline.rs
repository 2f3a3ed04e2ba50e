//! Encoding of inline operator state in the manifest: a version byte, then bincode.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Limit for decoding, so that a damaged length does not exhaust the memory.
const STATE_BYTES_MAX: usize = 1 << 30;

/// Encodes state with its version.
pub(super) fn encode<T: Serialize>(state: &T, version: u8) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![version];
    bincode::serde::encode_into_std_write(state, &mut bytes, bincode::config::standard())
        .map_err(|error| invalid(format!("operator state cannot be written: {error}")))?;
    Ok(bytes)
}

/// Decodes state, which must have this version.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], version: u8) -> Result<T, Error> {
    match bytes.split_first() {
        Some((found, rest)) if *found == version => {
            let (state, _) =
                bincode::serde::decode_from_slice(rest, bincode::config::standard().with_limit::<STATE_BYTES_MAX>())
                    .map_err(|error| invalid(format!("operator state in the checkpoint cannot be read: {error}")))?;
            Ok(state)
        }
        Some((found, _)) => Err(invalid(format!(
            "operator state in the checkpoint has version {found}, this engine reads version {version}"
        ))),
        None => Err(invalid("operator state in the checkpoint is empty".to_owned())),
    }
}

fn invalid(message: String) -> Error {
    Error::Operator {
        operator: "restore".to_owned(),
        message,
    }
}
