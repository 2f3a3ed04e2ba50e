//! Which option values are secrets, and what is printed in their place.
//!
//! Options that a connector marks as secret are the connector's to name; this is the net below: anything whose name
//! sounds like a secret, and passwords inside URLs, are never printed, whoever prints them.

/// Printed instead of a secret.
pub const MASK: &str = "******";

const WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "jaas",
    "apikey",
    "api-key",
    "api.key",
    "api_key",
    "access-key",
    "access.key",
    "access_key",
    "authorization",
];

/// Whether an option of this name holds a secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// The value as it may be printed. A reference to the environment is not itself a secret.
pub fn mask(key: &str, value: &str) -> String {
    if is_secret(key) && !is_reference(value) {
        return MASK.to_string();
    }
    mask_url(value)
}

fn is_reference(value: &str) -> bool {
    value.starts_with("${") && value.find('}') == Some(value.len() - 1) && !value.contains(":-")
}

/// Hides the password of `scheme://user:password@host`.
fn mask_url(value: &str) -> String {
    let Some(start) = value.find("://").map(|at| at + 3) else {
        return value.to_string();
    };
    let authority_end = value[start..]
        .find(['/', '?', '#'])
        .map_or(value.len(), |at| start + at);
    let authority = &value[start..authority_end];
    match (authority.rfind('@'), authority.find(':')) {
        (Some(at), Some(colon)) if colon < at => {
            format!("{}{MASK}{}", &value[..start + colon + 1], &value[start + at..])
        }
        _ => value.to_string(),
    }
}

/// A copy of the spec that may be printed.
pub fn masked(spec: &crate::JobSpec) -> crate::JobSpec {
    let mut spec = spec.clone();
    let sources = spec.sources.iter_mut().flat_map(|source| &mut source.options);
    let sinks = spec.sinks.iter_mut().flat_map(|sink| &mut sink.options);
    for property in sources.chain(sinks) {
        property.value = mask(&property.key, &property.value);
    }
    if let Some(storage) = spec
        .checkpoints
        .as_mut()
        .and_then(|checkpoints| checkpoints.storage.as_mut())
    {
        *storage = mask_url(storage);
    }
    spec
}
