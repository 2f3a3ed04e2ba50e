use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Ways in which a server breaks a connection after the request has arrived (HTTP/2, RFC 9113 section 6).
#[derive(Debug, Clone, Copy)]
enum Break {
    Close,
    Reset,
    /// GOAWAY with this error code.
    GoAway(u8),
    /// RST_STREAM with this error code.
    ResetStream(u8),
}

const FRAME_HEADER_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
/// Size of the message of [`delete`]: the five bytes of gRPC's header, then a field of one letter.
const DELETE_BYTES: usize = 8;

/// Starts a gRPC server that never answers, and breaks its connections. Counts the complete calls of [`delete`],
/// without the requests of the port probe afterwards.
async fn never_answers(how: Break) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let arrived = Arc::new(AtomicU32::new(0));
    let counter = arrived.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_and_break(stream, how, counter.clone()));
        }
    });
    (address, arrived)
}

async fn take_and_break(mut stream: TcpStream, how: Break, arrived: Arc<AtomicU32>) -> std::io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await?;
    if !preface.starts_with(b"PRI") {
        return Ok(());
    }
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
    let body_bytes = loop {
        let mut header = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).await?;
        if header[3] == DATA {
            break length;
        }
    };
    if body_bytes == DELETE_BYTES {
        arrived.fetch_add(1, Ordering::SeqCst);
    }
    match how {
        Break::Close => {}
        Break::Reset => stream.set_zero_linger()?,
        Break::GoAway(code) => {
            stream
                .write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code])
                .await?
        }
        Break::ResetStream(code) => {
            stream.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]).await?;
            // The connection stays open.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
    }
    Ok(())
}

const BREAKS: [Break; 9] = [
    Break::Close,
    Break::Reset,
    Break::GoAway(0),
    Break::GoAway(2),
    Break::ResetStream(0),
    Break::ResetStream(2),
    Break::ResetStream(7),
    Break::ResetStream(8),
    Break::ResetStream(11),
];

async fn delete(client: &mut Client, repeat: Retry<'_>) -> Failure {
    let request = millstream_proto::v1::DeleteJobRequest { name: "a".into() };
    let call = client.call(repeat, async |channel| jobs(channel).delete(request.clone()).await);
    call.await.unwrap_err()
}

const LOOK: &str = "engine-cli jobs describe a";

#[tokio::test]
async fn a_change_whose_connection_breaks_has_an_unknown_outcome() {
    for how in BREAKS {
        let (server, arrived) = never_answers(how).await;
        let failure = delete(&mut Client::new(vec![server]), Retry::Never { inspect: LOOK }).await;
        assert_eq!(failure.exit, Exit::Unreachable, "{how:?}: {}", failure.message);
        assert_eq!(failure.code(), Some("outcome-unknown"), "{how:?}");
        assert!(
            failure.message.contains("unknown whether it took effect") && failure.message.contains(LOOK),
            "{how:?}: {}",
            failure.message
        );
        assert_eq!(arrived.load(Ordering::SeqCst), 1, "{how:?}: it must not be sent twice");
    }
}

#[tokio::test]
async fn a_change_that_may_be_repeated_is_and_its_outcome_is_unknown_still() {
    for how in BREAKS {
        let (server, arrived) = never_answers(how).await;
        let failure = delete(&mut Client::new(vec![server]), Retry::Idempotent { inspect: LOOK }).await;
        assert_eq!(failure.exit, Exit::Unreachable, "{how:?}: {}", failure.message);
        assert_eq!(failure.code(), Some("outcome-unknown"), "{how:?}");
        assert!(arrived.load(Ordering::SeqCst) >= 2, "{how:?}");
    }
}

#[tokio::test]
async fn reading_is_repeated_and_says_only_that_nobody_answers() {
    for how in BREAKS {
        let (server, arrived) = never_answers(how).await;
        let failure = delete(&mut Client::new(vec![server]), Retry::ReadOnly).await;
        assert_eq!(failure.exit, Exit::Unreachable, "{how:?}: {}", failure.message);
        assert_eq!(failure.code(), None, "{how:?}: {}", failure.message);
        assert!(arrived.load(Ordering::SeqCst) >= 2, "{how:?}");
    }
}

/// An earlier connection is closed and another cannot be opened, so the request is never sent.
#[tokio::test]
async fn a_change_that_was_never_sent_is_not_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let mut client = Client::new(vec![server]);
    let (opened, accepted) = tokio::join!(client.channel(), listener.accept());
    opened.unwrap();
    drop((accepted, listener));
    // Before the client has detected the end, the request may be written to the closed connection, with unknown
    // outcome.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let failure = delete(&mut client, Retry::Never { inspect: LOOK }).await;
        assert_eq!(failure.exit, Exit::Unreachable, "{}", failure.message);
        if failure.code().is_none() {
            assert!(failure.message.contains("cannot be reached"), "{}", failure.message);
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", failure.message);
    }
}
