//! Errors of librdkafka in terms of a table's options: the cause, the option and the remedy, with its own words at the
//! end.

use std::path::Path;

use rdkafka::ClientConfig;

/// Mechanisms that this build of librdkafka has.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// Says why a SASL mechanism cannot be used, if it cannot.
pub fn wrong_mechanism(value: &str) -> Option<String> {
    let is_known = MECHANISMS.iter().any(|known| known.eq_ignore_ascii_case(value.trim()));
    (!is_known).then(|| {
        let near = millstream_proto::spec::did_you_mean(value, MECHANISMS);
        format!(
            "`{value}` is no SASL mechanism of this client; write {}{near}",
            MECHANISMS.join(", ")
        )
    })
}

/// Explains why a client could not be made of this configuration.
pub fn refused(config: &ClientConfig, said: &str) -> String {
    const FILES: [(&str, &str); 3] = [
        ("ssl.ca.location", "the CA's certificates"),
        ("ssl.certificate.location", "the client's certificate"),
        ("ssl.key.location", "the client's private key"),
    ];
    for (name, content) in FILES {
        if said.contains(&format!("{name} failed")) {
            let value = config.get(name).unwrap_or_default();
            let cause = match Path::new(value).exists() {
                false => {
                    "there is no such file on this machine: correct the path, which must be the same on all workers"
                }
                true => "the file is not readable as PEM: convert it, or name another one",
            };
            return format!("option 'properties.{name}' = '{value}' ({content}): {cause} ({said})");
        }
    }
    format!("the Kafka client cannot be made of the options 'properties.*': correct what it speaks of ({said})")
}

/// Explains why the brokers cannot be used, as far as librdkafka's words say it, with its words. `brokers` is the value
/// of the option.
pub fn connection(brokers: &str, said: &str) -> Option<String> {
    Some(format!("{} ({said})", cause(brokers, said)?))
}

/// The same without its words.
pub fn cause(brokers: &str, said: &str) -> Option<String> {
    let is_closed_at_once =
        said.contains("Disconnected") && (said.contains("APIVERSION_QUERY") || said.contains("requesting ApiVersion"));
    let cause = if let Some(host) = between(said, "Failed to resolve '", "'") {
        match brokers.contains(host) {
            true => format!("no host `{host}` is known here: correct 'properties.bootstrap.servers'"),
            false => format!(
                "the brokers advertise the address `{host}`, which is not known here: correct `advertised.listeners` of the \
                 brokers, or make the name known on this machine"
            ),
        }
    } else if said.contains("certificate verify failed") || said.contains("certificate could not be verified") {
        "the brokers' certificate is not signed by an authority that is known here: name the CA's file (PEM) in \
         'properties.ssl.ca.location'"
            .to_string()
    } else if said.contains("SSL handshake failed") || said.contains("in state SSL_HANDSHAKE") {
        "there is no TLS at this port of the brokers: name the port of their TLS listener in \
         'properties.bootstrap.servers', or write 'properties.security.protocol' = 'PLAINTEXT' (with a password: \
         'SASL_PLAINTEXT')"
            .to_string()
    } else if said.contains("nsupported SASL mechanism") {
        "the brokers do not offer this SASL mechanism: set 'properties.sasl.mechanism' to one that they do".to_string()
    } else if said.contains("SASL authentication error") || said.contains("uthentication failed") {
        "the brokers refuse the credentials: check 'properties.sasl.username' and 'properties.sasl.password', and that \
         'properties.sasl.mechanism' is the one that the user was made for"
            .to_string()
    } else if is_closed_at_once {
        "the brokers close the connection at once, as they do where they want TLS or a password: set \
         'properties.security.protocol' to 'SSL', 'SASL_SSL' or 'SASL_PLAINTEXT', whichever their listener has"
            .to_string()
    } else if said.contains("Connection refused") {
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
#[path = "explain_tests.rs"]
mod tests;
