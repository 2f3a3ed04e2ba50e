//! Explanations of errors of the `object_store` crate: the cause, the setting and the remedy, followed by the library's
//! message.
//!
//! Object stores of checkpoints are configured by environment variables, those of tables also by options. Both report
//! the same mistake in the same words.
#![warn(missing_docs, unreachable_pub)]

mod retry;

use std::error::Error as _;

use object_store::ClientConfigKey;
use object_store::Error;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

pub use self::retry::Retry;

/// The source of settings, which decides their spelling in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settings {
    /// Environment variables: `AWS_ENDPOINT`.
    Environment,
    /// Options of a table (`'store.aws_endpoint'`), which override environment variables.
    Options,
}

impl Settings {
    fn name(self, setting: &str) -> String {
        match self {
            Self::Environment => setting.to_ascii_uppercase(),
            Self::Options => format!("'store.{setting}'"),
        }
    }

    fn equals(self, setting: &str, value: &str) -> String {
        match self {
            Self::Environment => format!("{}={value}", self.name(setting)),
            Self::Options => format!("{} = '{value}'", self.name(setting)),
        }
    }
}

/// Returns an error if the endpoint is without TLS and plain HTTP is not allowed, since every request would fail.
pub fn check_s3(builder: &AmazonS3Builder, settings: Settings) -> Result<(), String> {
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key));
    let Some(endpoint) = endpoint.filter(|endpoint| endpoint.to_ascii_lowercase().starts_with("http://")) else {
        return Ok(());
    };
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    let is_allowed =
        allowed.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "y"));
    if is_allowed {
        return Ok(());
    }
    Err(format!(
        "{} is an endpoint without TLS, which must be allowed: set {}, or name an https:// endpoint",
        settings.equals("aws_endpoint", &endpoint),
        settings.equals("aws_allow_http", "true")
    ))
}

/// Returns the cause of an error and its remedy, followed by the library's message in parentheses; only that message if
/// the cause is unknown.
pub fn explain(error: &Error, settings: Settings) -> String {
    let message = message_chain(error);
    match cause(error, &message, settings) {
        Some(cause) => format!("{cause} ({message})"),
        None => message,
    }
}

/// Returns the messages of an error and its sources.
fn message_chain(error: &Error) -> String {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !chain.contains(&text) {
            chain.push_str(": ");
            chain.push_str(&text);
        }
        source = inner.source();
    }
    chain
}

/// Returns the cause of an error and its remedy, recognised by the kind of error and words of its message.
fn cause(error: &Error, message: &str, settings: Settings) -> Option<String> {
    let name = |setting: &str| settings.name(setting);
    let credentials = || format!("{} and {}", name("aws_access_key_id"), name("aws_secret_access_key"));
    if message.contains("169.254.169.254") || message.contains("169.254.170.2") {
        return Some(format!(
            "there are no credentials for the object store, and this machine has no role that gives some: set {} (for a \
             public bucket: {})",
            credentials(),
            settings.equals("aws_skip_signature", "true")
        ));
    }
    if message.contains("InvalidAccessKeyId") {
        return Some(format!(
            "the object store does not know the access key: check {}",
            name("aws_access_key_id")
        ));
    }
    if message.contains("SignatureDoesNotMatch") {
        return Some(format!(
            "the object store refuses the signature: check {}, and {}",
            name("aws_secret_access_key"),
            name("aws_region")
        ));
    }
    match error {
        Error::Unauthenticated { .. } => {
            return Some("the object store refuses the credentials: check them, and that they have not expired".into());
        }
        Error::PermissionDenied { .. } => {
            return Some(
                "the credentials do not give the right to this: check them, and what they may do in this bucket".into(),
            );
        }
        _ => {}
    }
    if message.contains("NoSuchBucket") {
        return Some(format!(
            "there is no such bucket at this endpoint: create it, or correct its name or {}",
            name("aws_endpoint")
        ));
    }
    if message.contains("scheme is not allowed") {
        return Some(format!(
            "the endpoint is one without TLS, which must be allowed: set {}",
            settings.equals("aws_allow_http", "true")
        ));
    }
    if message.contains("dns error") || message.contains("failed to lookup address") {
        return Some(format!(
            "the host of the object store is not known here: check {} and {}",
            name("aws_endpoint"),
            name("aws_region")
        ));
    }
    if message.contains("Connection refused") {
        return Some(format!(
            "nothing listens at the address of the object store: check {}, and that the store is up",
            name("aws_endpoint")
        ));
    }
    if message.contains("certificate") {
        return Some(
            "the certificate of the object store is not signed by an authority that this machine knows: add it to the \
             system's"
                .into(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(said: &str) -> Error {
        Error::Generic {
            store: "S3",
            source: said.into(),
        }
    }

    #[test]
    fn an_endpoint_without_tls_must_be_allowed() {
        let builder = |endpoint: &str, allowed: &str| {
            AmazonS3Builder::new()
                .with_config(AmazonS3ConfigKey::Endpoint, endpoint)
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), allowed)
        };
        assert_eq!(check_s3(&AmazonS3Builder::new(), Settings::Options), Ok(()));
        assert_eq!(check_s3(&builder("https://a", "false"), Settings::Options), Ok(()));
        assert_eq!(check_s3(&builder("http://a:9000", "true"), Settings::Options), Ok(()));
        assert_eq!(
            check_s3(&builder("http://a:9000", "false"), Settings::Options),
            Err(
                "'store.aws_endpoint' = 'http://a:9000' is an endpoint without TLS, which must be allowed: set \
                 'store.aws_allow_http' = 'true', or name an https:// endpoint"
                    .to_string()
            )
        );
        let bare = AmazonS3Builder::new().with_config(AmazonS3ConfigKey::Endpoint, "http://a:9000");
        assert_eq!(
            check_s3(&bare, Settings::Environment),
            Err(
                "AWS_ENDPOINT=http://a:9000 is an endpoint without TLS, which must be allowed: set \
                 AWS_ALLOW_HTTP=true, or name an https:// endpoint"
                    .to_string()
            )
        );
    }

    #[test]
    fn the_cause_comes_first_and_the_librarys_words_last() {
        #[track_caller]
        fn check(said: &str, expected: &str) {
            let error = generic(said);
            let explained = explain(&error, Settings::Environment);
            let words = format!(" (Generic S3 error: {said})");
            assert_eq!(explained.strip_suffix(words.as_str()), Some(expected), "{explained}");
        }
        check(
            "PUT http://169.254.169.254/latest/api/token: no route",
            "there are no credentials for the object store, and this machine has no role that gives some: set \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for a public bucket: AWS_SKIP_SIGNATURE=true)",
        );
        check(
            "tcp connect error: Connection refused (os error 111)",
            "nothing listens at the address of the object store: check AWS_ENDPOINT, and that the store is up",
        );
        check(
            "dns error: failed to lookup address information",
            "the host of the object store is not known here: check AWS_ENDPOINT and AWS_REGION",
        );
        assert_eq!(
            explain(&generic("teapot"), Settings::Options),
            "Generic S3 error: teapot"
        );
    }
}
