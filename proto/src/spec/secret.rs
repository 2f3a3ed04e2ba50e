//! Masking of secrets in option values.
//!
//! Connectors mark their secret options. In addition, options with names such as `password` and passwords in URLs are
//! masked wherever values are printed.

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

/// Returns true if the name of an option indicates a secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// Returns the value of an option, masked if it is a secret. A reference to an environment variable is not a secret.
pub fn mask(key: &str, value: &str) -> String {
    if is_secret(key) && !is_reference(value) {
        return MASK.to_string();
    }
    mask_url(value)
}

fn is_reference(value: &str) -> bool {
    value.starts_with("${") && value.find('}') == Some(value.len() - 1) && !value.contains(":-")
}

/// Masks the password of `scheme://user:password@host`.
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
