//! Explanations of librdkafka's errors in terms of a table's options: the cause, the option and the remedy, followed by
//! librdkafka's own text.

use std::path::Path;

use rdkafka::ClientConfig;

/// SASL mechanisms that this build of librdkafka supports.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// Explains why a SASL mechanism cannot be used; `None` if it can.
pub(super) fn explain_unknown_mechanism(value: &str) -> Option<String> {
    let is_known = MECHANISMS.iter().any(|known| known.eq_ignore_ascii_case(value.trim()));
    (!is_known).then(|| {
        let near = millstream_proto::spec::did_you_mean(value, MECHANISMS);
        format!(
            "`{value}` is not a SASL mechanism of this client; write {}{near}",
            MECHANISMS.join(", ")
        )
    })
}

/// Explains why a client cannot be created with this configuration.
pub(super) fn explain_refused_config(config: &ClientConfig, text: &str) -> String {
    const FILES: [(&str, &str); 3] = [
        ("ssl.ca.location", "the CA's certificates"),
        ("ssl.certificate.location", "the client's certificate"),
        ("ssl.key.location", "the client's private key"),
    ];
    for (name, content) in FILES {
        if text.contains(&format!("{name} failed")) {
            let value = config.get(name).unwrap_or_default();
            let cause = match Path::new(value).exists() {
                false => {
                    "there is no such file on this machine: correct the path, which must be the same on all workers"
                }
                true => "the file is not readable as PEM: convert it, or name another one",
            };
            return format!("option 'properties.{name}' = '{value}' ({content}): {cause} ({text})");
        }
    }
    format!("the Kafka client cannot be created with the options 'properties.*': correct the one it names ({text})")
}

/// Explains why the brokers cannot be used, followed by librdkafka's text; `None` if the cause is not known. `brokers`
/// is the value of the option.
pub(super) fn explain_connection(brokers: &str, text: &str) -> Option<String> {
    Some(format!("{} ({text})", connection_cause(brokers, text)?))
}

/// Explains like [`explain_connection`], without librdkafka's text.
pub(super) fn connection_cause(brokers: &str, text: &str) -> Option<String> {
    let is_closed_at_once =
        text.contains("Disconnected") && (text.contains("APIVERSION_QUERY") || text.contains("requesting ApiVersion"));
    let cause = if let Some(host) = between(text, "Failed to resolve '", "'") {
        match brokers.contains(host) {
            true => format!("no host `{host}` is known here: correct 'properties.bootstrap.servers'"),
            false => format!(
                "the brokers advertise the address `{host}`, which is not known here: correct `advertised.listeners` of the \
                 brokers, or make the name known on this machine"
            ),
        }
    } else if text.contains("certificate verify failed") || text.contains("certificate could not be verified") {
        "the brokers' certificate is not signed by an authority that is known here: name the CA's file (PEM) in \
         'properties.ssl.ca.location'"
            .to_string()
    } else if text.contains("SSL handshake failed") || text.contains("in state SSL_HANDSHAKE") {
        "there is no TLS at this port of the brokers: name the port of their TLS listener in \
         'properties.bootstrap.servers', or write 'properties.security.protocol' = 'PLAINTEXT' (with a password: \
         'SASL_PLAINTEXT')"
            .to_string()
    } else if text.contains("nsupported SASL mechanism") {
        "the brokers do not offer this SASL mechanism: set 'properties.sasl.mechanism' to one that they do".to_string()
    } else if text.contains("SASL authentication error") || text.contains("uthentication failed") {
        "the brokers refuse the credentials: check 'properties.sasl.username' and 'properties.sasl.password', and that \
         'properties.sasl.mechanism' is the one that the user was made for"
            .to_string()
    } else if is_closed_at_once {
        "the brokers close the connection at once, as they do where they want TLS or a password: set \
         'properties.security.protocol' to 'SSL', 'SASL_SSL' or 'SASL_PLAINTEXT', whichever their listener has"
            .to_string()
    } else if text.contains("Connection refused") {
        "nothing listens at this address: check host and port in 'properties.bootstrap.servers', and that the cluster is up"
            .to_string()
    } else {
        return None;
    };
    Some(cause)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    rest.split(after).next()
}

#[cfg(test)]
#[path = "error_causes_tests.rs"]
mod tests;
