use std::collections::HashMap;

use millstream_planner::Mode;
use millstream_proto::v1;
use millstream_state::store::{Backend, BackendOptions};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::Limits;
use super::*;
use crate::resolve::{self, Overrides};

/// Filters, computes, may fail, and has two sinks, one of them after a union.
fn pipeline(on_error: &str) -> String {
    format!(
        "
name: checks
sources:
  payments: {{ connector: request, columns: {{ id: bigint, card: string, amount: bigint }}, on_error: {on_error} }}
steps:
  divided:
    sql: SELECT id, UPPER(card) AS card, 100 / amount AS ratio FROM payments WHERE amount < 50
    on_error: {on_error}
  both:
    sql: SELECT id, ratio FROM divided WHERE ratio > 10 UNION ALL SELECT id, amount FROM payments WHERE card = 'a'
sinks:
  first: {{ from: divided, connector: response }}
  second: {{ from: both, connector: response }}
"
    )
}

fn service(on_error: &str) -> Service {
    let text = v1::SpecText {
        text: pipeline(on_error),
        file: "checks.yaml".into(),
    };
    let pipeline = v1::Pipeline {
        pipeline: Some(v1::pipeline::Pipeline::Yaml(text)),
        environment: HashMap::new(),
    };
    let overrides = Overrides {
        name: None,
        mode: Some(Mode::Serve),
    };
    let resolved = resolve::resolve(&pipeline, &overrides, 0).expect("it plans");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let backend = Backend::new(BackendOptions {
        dir: folder.path().to_path_buf(),
        memory_bytes: 64 << 20,
        process_gauge: None,
        background_threads: 1,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let prepared = Service::prepare(&resolved, backend.expect("a store"), Limits::default());
    runtime.expect("a runtime").block_on(prepared).expect("a service")
}

/// Rows of which some do not decode, and some fail.
fn row() -> impl Strategy<Value = String> {
    let amount = select(vec!["1", "3", "7", "49", "50", "100", "null", "0", "\"x\""]);
    let weighted = prop_oneof![20 => select(vec!["1", "3", "7", "100"]), 1 => amount];
    (0..100_u32, select(vec!["\"a\"", "\"b\"", "null"]), weighted)
        .prop_map(|(id, card, amount)| format!("{{\"id\":{id},\"card\":{card},\"amount\":{amount}}}"))
}

fn request() -> impl Strategy<Value = (BodyFormat, String)> {
    let rows = || prop::collection::vec(row(), 0..4);
    prop_oneof![
        10 => rows().prop_map(|rows| (BodyFormat::Json, format!("[{}]", rows.join(", ")))),
        5 => row().prop_map(|row| (BodyFormat::Json, format!(" {row}\n"))),
        5 => rows().prop_map(|rows| (BodyFormat::Ndjson, rows.join("\n"))),
        1 => select(vec!["", "[", "[1]", "{\"idd\": 1}", "{} {}"]).prop_map(|body| (BodyFormat::Json, body.to_owned())),
    ]
}

fn answers(service: &Service, requests: &[(BodyFormat, String)], deadline: Instant) -> Vec<String> {
    let waiting = requests.iter().map(|(format, body)| {
        let (answer, answered) = oneshot::channel();
        let request = SharedRequest {
            format: *format,
            body: body.clone().into_bytes(),
            deadline,
        };
        (Waiting { request, answer }, answered)
    });
    let (waiting, answered): (Vec<_>, Vec<_>) = waiting.unzip();
    service.answer(waiting);
    let text = |answer: Answer| match answer {
        Ok(body) => String::from_utf8(body).expect("JSON is text"),
        Err(failure) => format!("{failure:?}"),
    };
    let answers = answered
        .into_iter()
        .map(|mut answered| answered.try_recv().expect("an answer"));
    answers.map(text).collect()
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn requests_that_share_a_batch_have_the_answers_that_they_have_alone() {
    for on_error in ["fail", "skip", "null"] {
        let service = service(on_error);
        assert!(service.can_share);
        let requests = prop::collection::vec(request(), 1..12);
        proptest!(ProptestConfig::with_cases(150), |(requests in requests)| {
            let alone: Vec<String> = requests
                .iter()
                .flat_map(|request| answers(&service, std::slice::from_ref(request), later()))
                .collect();
            prop_assert_eq!(answers(&service, &requests, later()), alone);
        });
    }
}

#[test]
fn a_batch_runs_as_one_unless_a_row_fails() {
    let service = service("fail");
    let of = |body: &str| {
        let (answer, _) = oneshot::channel();
        let request = SharedRequest {
            format: BodyFormat::Json,
            body: body.as_bytes().to_vec(),
            deadline: later(),
        };
        Waiting { request, answer }
    };
    let good = r#"{"id": 1, "card": "a", "amount": 4}"#;
    let together = service.invoke_together(&[of(good), of("[]"), of(r#"{"id": "x"}"#), of(good)]);
    let is_shared: Vec<bool> = together.iter().map(Option::is_some).collect();
    assert_eq!(is_shared, [true, false, false, true]);
    let failing = r#"{"id": 1, "card": "a", "amount": 0}"#;
    assert!(service.invoke_together(&[of(good), of(failing)]).is_empty());
}

#[test]
fn requests_whose_deadline_has_passed_fail() {
    let service = service("fail");
    let request = (BodyFormat::Json, r#"{"id": 1}"#.to_owned());
    for answer in answers(&service, &[request.clone(), request], Instant::now()) {
        assert!(answer.contains("deadline"), "{answer}");
    }
}

#[test]
fn a_batch_is_taken_up_to_its_limit_of_bytes() {
    let queue = SharedQueue::default();
    let push = |bytes: usize| {
        let (answer, _) = oneshot::channel();
        let request = SharedRequest {
            format: BodyFormat::Json,
            body: vec![b' '; bytes],
            deadline: later(),
        };
        queue.0.lock().waiting.push(Waiting { request, answer });
    };
    for bytes in [BATCH_BYTES_MAX + 1, 1, BATCH_BYTES_MAX - 1, 1] {
        push(bytes);
    }
    let sizes: Vec<(usize, bool)> = (0..4)
        .map(|_| queue.take())
        .map(|(taken, rest)| (taken.len(), rest))
        .collect();
    assert_eq!(sizes, [(1, true), (2, true), (1, false), (0, false)]);
}
