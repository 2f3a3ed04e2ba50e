use serde_json::json;

use super::*;
use crate::v1;

#[test]
fn a_message_survives_the_way_to_json_and_back() {
    let job = v1::Job {
        name: "toll-booth".into(),
        state: v1::JobState::Restarting as i32,
        submitted_us: 1_767_225_600_000_000,
        numbers: Some(v1::JobNumbers {
            rows_in: u64::MAX,
            rows_in_per_second: 1.5,
            watermark_us: Some(0),
            ..v1::JobNumbers::default()
        }),
        transitions: vec![v1::Transition::default()],
        placement: vec!["a".into(), "b".into()],
        ..v1::Job::default()
    };
    let value = to_value(&job);
    assert_eq!(value["state"], "restarting");
    assert_eq!(value["numbers"]["rows_in"], u64::MAX);
    assert_eq!(value["numbers"]["watermark_us"], 0);
    assert_eq!(value["numbers"].get("lag_rows"), None, "absent stays absent");
    assert_eq!(value["restarts"], 0, "zero is written");
    assert_eq!(from_value::<v1::Job>(&value), Ok(job));
}

#[test]
fn times_are_written_as_numbers_and_as_text() {
    let worker = v1::Worker {
        since_us: 1_767_225_600_000_042,
        clock_offset_us: 5,
        ..v1::Worker::default()
    };
    let value = to_value(&worker);
    assert_eq!(value["since_us"], 1_767_225_600_000_042_i64);
    assert_eq!(value["since_at"], "2026-01-01T00:00:00.000042Z");
    assert_eq!(value.get("clock_offset_at"), None, "a difference is no time");
    let event = v1::Transition {
        at_us: 1,
        ..v1::Transition::default()
    };
    assert_eq!(to_value(&event)["at"], "1970-01-01T00:00:00.000001Z");
    assert_eq!(to_value(&v1::Transition::default()).get("at"), None, "not known");
    let watermark = |watermark_us| {
        to_value(&v1::SplitStatus {
            watermark_us,
            ..v1::SplitStatus::default()
        })
    };
    assert_eq!(watermark(Some(0))["watermark_at"], "1970-01-01T00:00:00.000000Z");
    assert_eq!(watermark(Some(i64::MAX)).get("watermark_at"), None, "no more rows");
    assert_eq!(watermark(None).get("watermark_at"), None);

    let text_alone = json!({ "at": "1970-01-01T00:00:00.000001Z" });
    let error = from_value::<v1::Transition>(&text_alone).unwrap_err();
    let expected = "at: is only written; give `at_us`, microseconds since the epoch";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn enums_maps_and_choices_read_as_people_write_them() {
    let value = json!({
        "pipeline": { "yaml": { "text": "name: a", "file": "a.yaml" }, "environment": { "HOST": "broker" } },
        "mode": "batch", "parallelism": "4", "from": { "job": "a", "checkpoint": 7 }, "dry_run": true, "name": null
    });
    let request: v1::SubmitRequest = from_value(&value).unwrap();
    let pipeline = request.pipeline.unwrap();
    assert_eq!(pipeline.environment["HOST"], "broker");
    assert!(matches!(pipeline.pipeline, Some(v1::pipeline::Pipeline::Yaml(text)) if text.text == "name: a"));
    assert_eq!(request.mode, Some(v1::Mode::Batch as i32));
    assert_eq!(request.parallelism, Some(4));
    assert_eq!(request.from.unwrap().checkpoint, Some(7));
    assert_eq!(request.name, None);
}

#[test]
fn mistakes_name_the_place_and_what_would_be_right() {
    #[track_caller]
    fn check(value: Value, expected: &str) {
        let error = from_value::<v1::SubmitRequest>(&value).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    check(json!([]), "expected an object, found a list");
    check(json!({ "nmae": "a" }), "nmae: unknown field; did you mean `name`?");
    check(
        json!({ "pipeline": { "yaml": { "text": 1 } } }),
        "pipeline.yaml.text: expected text, found 1",
    );
    check(
        json!({ "mode": "strem" }),
        "mode: `strem` is none of stream, batch, serve",
    );
    check(
        json!({ "parallelism": 4294967296_u64 }),
        "parallelism: 4294967296 is out of range",
    );
    check(
        json!({ "parallelism": 1.5 }),
        "parallelism: expected a whole number, found 1.5",
    );
    check(
        json!({ "dry_run": "yes" }),
        "dry_run: expected true or false, found `yes`",
    );
    check(
        json!({ "pipeline": { "yaml": { "text": "a" }, "sql": { "text": "b" } } }),
        "pipeline.sql: `yaml` is given too; give one of the two",
    );
}

/// The schema is checked against the mapping by a small reader of the few keywords that it uses.
#[test]
fn what_is_written_fits_the_schema() {
    let job = v1::Job {
        operators: vec![v1::OperatorStatus {
            splits: vec![v1::SplitStatus::default()],
            ..v1::OperatorStatus::default()
        }],
        numbers: Some(v1::JobNumbers::default()),
        submitted_us: 1,
        ..v1::Job::default()
    };
    let schemas = schema::schemas(["Job"], "schemas");
    fits(&to_value(&job), &schemas["Job"], &schemas);
    assert_eq!(
        schemas["Job"]["properties"]["reason"]["description"],
        "Reason of the state: an error, a missing resource, a request."
    );
}

#[track_caller]
fn fits(value: &Value, schema: &Value, schemas: &std::collections::BTreeMap<String, Value>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/schemas/").unwrap();
        return fits(value, &schemas[name], schemas);
    }
    match schema["type"].as_str().unwrap() {
        "object" => {
            for (name, value) in value.as_object().unwrap() {
                fits(value, &schema["properties"][name], schemas);
            }
        }
        "array" => value
            .as_array()
            .unwrap()
            .iter()
            .for_each(|value| fits(value, &schema["items"], schemas)),
        "string" => {
            assert!(value.is_string());
            if let Some(words) = schema["enum"].as_array() {
                assert!(words.contains(value), "{value} in {words:?}");
            }
        }
        "integer" => assert!(value.is_i64() || value.is_u64()),
        "number" => assert!(value.is_number()),
        "boolean" => assert!(value.is_boolean()),
        other => panic!("{other}"),
    }
}
