//! Explanations of the errors that librdkafka really reports where brokers cannot be used, on loopback.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use rdkafka::ClientConfig;

use super::super::Kafka;
use super::super::tests::table;
use super::super::topic_check;
use super::{explain_connection, explain_refused_config};
use crate::{Connector, Error, Role};

/// Brokers, more options, and what is said of them.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

const TOPIC: (&str, &str) = ("topic", "a");

/// Accepts connections, says this and closes them.
#[expect(clippy::disallowed_methods, reason = "a server for the test")]
fn broker_that_says(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // Whoever went away need not hear it.
            drop(stream.write_all(words));
        }
    });
    address
}

#[test]
fn errors_of_brokers_name_the_option() {
    let (closing, plain) = (
        broker_that_says(b""),
        broker_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    );
    let cases: [Case<'_>; 4] = [
        (
            "nohost.invalid:9092",
            &[],
            "do not answer within 5 s: no host `nohost.invalid:9092` is known here: correct 'properties.bootstrap.servers' (",
        ),
        (
            "127.0.0.1:1",
            &[],
            "do not answer within 5 s: nothing listens at this address: check host and port in 'properties.bootstrap.servers'",
        ),
        (
            &closing,
            &[],
            "the brokers close the connection at once, as they do where they want TLS or a password: set \
             'properties.security.protocol'",
        ),
        (
            &plain,
            &[("properties.security.protocol", "SSL")],
            "there is no TLS at this port of the brokers",
        ),
    ];
    let tables = cases.iter().map(|(brokers, options, _)| {
        let mut all = vec![("properties.bootstrap.servers", *brokers), TOPIC];
        all.extend(*options);
        (Role::Source, Arc::new(table(&all)))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let answers = runtime.block_on(topic_check::check_topics(tables.collect()));
    for (answer, (brokers, _, expected)) in answers.into_iter().zip(&cases) {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{brokers}: {error:?}");
        assert!(error.to_string().contains(expected), "{brokers}: {error}");
    }
}

#[test]
fn certificate_files_that_cannot_be_read_are_reported_with_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("no.pem"), "this is nothing").unwrap();
    for (file, expected) in [
        (
            "absent.pem",
            "(the CA's certificates): there is no such file on this machine",
        ),
        ("no.pem", "(the CA's certificates): the file is not readable as PEM"),
    ] {
        let path = path(file);
        let options = [
            ("properties.bootstrap.servers", "127.0.0.1:1"),
            TOPIC,
            ("properties.security.protocol", "SSL"),
            ("properties.ssl.ca.location", &path),
        ];
        for role in [Role::Source, Role::Sink] {
            let tables = vec![(role, Arc::new(table(&options)))];
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let error = runtime
                .block_on(topic_check::check_topics(tables))
                .remove(0)
                .unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error:?}");
            let error = error.to_string();
            assert!(
                error.contains(&format!("option 'properties.ssl.ca.location' = '{path}' {expected}")),
                "{error}"
            );
        }
    }
}

#[test]
fn an_unknown_sasl_mechanism_is_refused_when_the_job_is_planned() {
    let options = |mechanism| {
        table(&[
            ("properties.bootstrap.servers", "a:1"),
            TOPIC,
            ("properties.sasl.mechanism", mechanism),
        ])
    };
    let errors = Kafka.validate(&options("SCRAM-SHA-265"), Role::Source);
    let expected = "`SCRAM-SHA-265` is not a SASL mechanism of this client; write PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, \
                    OAUTHBEARER; did you mean `SCRAM-SHA-256`?";
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].message, expected);
    assert!(Kafka.validate(&options("scram-sha-512"), Role::Source).is_empty());
}

#[test]
fn authentication_errors_are_recognised_by_their_text() {
    #[track_caller]
    fn check(said: &str, expected: &str) {
        let found = explain_connection("kafka.example:9092", said).unwrap();
        assert!(
            found.starts_with(expected) && found.ends_with(&format!(" ({said})")),
            "{found}"
        );
    }
    check(
        "sasl_plaintext://kafka.example:9092/bootstrap: SASL authentication error: Authentication failed: Invalid \
         username or password (after 2ms in state AUTH_REQ)",
        "the brokers refuse the credentials: check 'properties.sasl.username'",
    );
    check(
        "sasl_ssl://kafka.example:9092/1: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: \
         broker's supported mechanisms: SCRAM-SHA-512",
        "the brokers do not offer this SASL mechanism",
    );
    check(
        "kafka-0.internal:9092/0: Failed to resolve 'kafka-0.internal:9092': Name or service not known",
        "the brokers advertise the address `kafka-0.internal:9092`, which is not known here",
    );
    assert_eq!(explain_connection("a:1", "no words for it"), None);
    let config = ClientConfig::new();
    assert!(explain_refused_config(&config, "other").ends_with("correct the one it names (other)"));
}
