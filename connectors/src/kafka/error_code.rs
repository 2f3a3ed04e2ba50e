//! Classification of librdkafka's error codes.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::Error;

/// Returns true if the cause is permanent, so that a retry would fail in the same way: missing rights, a record or a
/// setting that the brokers refuse.
///
/// Failed authentication is not among them: librdkafka reports a wrong password with the same code as a token endpoint
/// that does not answer. An unknown topic or partition is not, either: a broker that has just started may not know of
/// it yet.
pub(super) fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTopic
            | Code::MessageSizeTooLarge
            | Code::InvalidConfig
            | Code::PolicyViolation
    )
}

/// Returns true if a client that reports this code outside of any call can no longer be used.
pub(super) fn is_fatal(code: Code) -> bool {
    matches!(
        code,
        Code::Fatal
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnsupportedSASLMechanism
    )
}

/// Returns an error with this message: [`Error::Invalid`] if the cause is permanent, [`Error::Unavailable`] otherwise.
pub(super) fn error(code: Option<Code>, message: String) -> Error {
    match code {
        Some(code) if is_permanent(code) => Error::Invalid(message),
        _ => Error::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_causes_are_not_retried() {
        for (code, expected) in [
            (Code::TopicAuthorizationFailed, true),
            (Code::Authentication, false),
            (Code::UnknownTopicOrPartition, false),
            (Code::UnknownPartition, false),
            (Code::MessageSizeTooLarge, true),
            (Code::AllBrokersDown, false),
            (Code::BrokerTransportFailure, false),
            (Code::MessageTimedOut, false),
            (Code::NotLeaderForPartition, false),
            // A fenced or broken idempotent producer: a restart creates another.
            (Code::Fatal, false),
        ] {
            assert_eq!(is_permanent(code), expected, "{code}");
            let is_invalid = matches!(error(Some(code), String::new()), Error::Invalid(_));
            assert_eq!(is_invalid, expected, "{code}");
        }
        assert!(matches!(error(None, String::new()), Error::Unavailable(_)));
    }
}
