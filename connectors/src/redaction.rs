//! Removal of secrets from messages.
//!
//! Messages of libraries may repeat a secret, for example the password of a wrong URL. [`redact`] removes every secret
//! that this process has read; errors of connectors, log lines and outages pass through it.

use std::borrow::Cow;

use parking_lot::RwLock;

/// Written instead of a secret.
pub(crate) const MASK: &str = "***";
/// Shortest value that is removed. Shorter ones occur in ordinary words.
const REDACTED_BYTES_MIN: usize = 4;

/// Every spelling of the secrets that this process has read, longest first.
static READ: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Removes every secret that this process has read from a text.
pub fn redact(text: &str) -> Cow<'_, str> {
    let read = READ.read();
    let mut redacted = Cow::Borrowed(text);
    for value in read.iter() {
        if redacted.contains(value.as_str()) {
            redacted = Cow::Owned(redacted.replace(value.as_str(), MASK));
        }
    }
    redacted
}

/// Adds a value to those that are removed from messages, as it is, and as it is written in JSON, in quotes of Rust and
/// in a URL.
pub(crate) fn remember(value: &str) {
    if value.len() < REDACTED_BYTES_MIN || READ.read().iter().any(|read| read == value) {
        return;
    }
    let json = serde_json::Value::from(value).to_string();
    let spellings = [
        value.to_string(),
        json[1..json.len() - 1].to_string(),
        value.escape_debug().to_string(),
        url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
    ];
    let mut read = READ.write();
    read.extend(spellings);
    read.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    read.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn what_was_read_is_removed_from_messages() {
        remember("pass \"word\"/7f2c");
        for text in [
            "user:pass \"word\"/7f2c@host",
            r#"{"m":"pass \"word\"/7f2c"}"#,
            "http://u:pass+%22word%22%2F7f2c@h",
        ] {
            let redacted = redact(text);
            assert!(redacted.contains(MASK) && !redacted.contains("7f2c"), "{redacted}");
        }
        let error = Error::Unavailable("no answer to pass \"word\"/7f2c".into());
        assert_eq!(error.to_string(), "no answer to ***");
        assert_eq!(format!("{error:?}"), "Unavailable(\"no answer to ***\")");
        assert!(matches!(redact("a harmless text"), Cow::Borrowed(_)));
    }
}
