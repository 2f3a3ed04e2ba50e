//! Whole files in, errors or specs out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{Checkpoints, Column, Consistency, ErrorPolicy, EventTime, Mode, Property, Sink, Source, Step};

const TOLL: &str = r#"
name: toll-booth
parallelism: 2
checkpoints: { interval: 10s, delivery: exactly-once }
sources:
  entries:
    connector: kafka
    options: { brokers: "localhost:9092", topic: toll-entries, properties: { group.id: 7 } }
    format: json
    columns: { booth: bigint, plate: string, entered: timestamp(3), at: { type: timestamp, metadata: timestamp }, dear: { as: booth * 2 } }
    event_time: { column: entered, out_of_orderness: 5s }
    on_error: null
steps:
  per_booth:
    sql: |
      SELECT booth, count(*) AS cars
      FROM entries
sinks:
  stats:
    from: per_booth
    connector: print
"#;

#[track_caller]
fn check_errors(text: &str, expected: &[&str]) {
    let errors: Vec<_> = parse(text)
        .expect_err("must be refused")
        .iter()
        .map(Error::to_string)
        .collect();
    assert_eq!(errors, expected);
}

#[test]
fn a_pipeline_reads_as_written() {
    let parsed = parse(TOLL).unwrap();
    let source = &parsed.spec.sources[0];
    let names: Vec<_> = source.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["booth", "plate", "entered", "at", "dear"]);
    let keys: Vec<_> = source.options.iter().map(|option| option.key.as_str()).collect();
    assert_eq!(keys, ["brokers", "topic", "properties.group.id"]);
    assert_eq!(source.on_error, Some(crate::ErrorPolicy::Null as i32));
    assert_eq!(source.event_time.as_ref().unwrap().out_of_orderness_ms, Some(5000));
    assert_eq!(
        parsed.spec.steps[0].sql,
        "SELECT booth, count(*) AS cars\nFROM entries\n"
    );
    assert_eq!(
        parsed.positions.find_within("steps.per_booth.sql", 2, 6),
        Some((17, 12))
    );
}

#[test]
fn both_spellings_say_the_same() {
    let spec = parse(TOLL).unwrap().spec;
    assert_eq!(parse(&to_yaml(&spec)).unwrap().spec, spec);
    assert_eq!(parse(&to_json(&spec)).unwrap().spec, spec);
}

#[test]
fn parallelism_auto_is_none_of_its_own() {
    let spec = parse(&TOLL.replace("parallelism: 2", "parallelism: auto"))
        .unwrap()
        .spec;
    assert_eq!(spec.parallelism, None);
    check_errors(
        &TOLL.replace("parallelism: 2", "parallelism: many"),
        &["3:14: parallelism: `many` is not a whole number from 1 to 32768"],
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    check_errors(
        "name: 1x\nparalelism: 2\nsources:\n  a: { connector: kafka, colums: {} }\nsteps:\n  a: { sql: [1] }\nsinks:\n  b:\n    from: a\n    from: c\n    on_error: skp\ncheckpoints: { interval: 10 }\n",
        &[
            "1:7: name: `1x` cannot be a name; a name begins with a letter and consists of letters, digits, `_`, `-` and `.` (200 at most)",
            "2:1: unknown field `paralelism`; did you mean `parallelism`?",
            "4:26: sources.a: unknown field `colums`; did you mean `columns`?",
            "6:6: steps.a: `a` is the name of another source or step; choose another",
            "6:13: steps.a.sql: expected text, found a list",
            "9:5: sinks.b: `connector` is missing: Kind of outside system; `engine connectors` lists them.",
            "10:5: `from` is given twice; the first is in line 9",
            "11:15: sinks.b.on_error: `skp` is not known here; did you mean `skip`?",
            "12:26: checkpoints.interval: `10` is not a duration; write a number and a unit, such as `10s`, `500ms`, `1min`, `2h`",
        ],
    );
}

#[test]
fn text_that_is_no_pipeline_is_refused() {
    check_errors(
        "",
        &["the file is empty; a pipeline has a `name`, `sources` and `sinks`"],
    );
    check_errors(
        "# nothing\n",
        &["the file is empty; a pipeline has a `name`, `sources` and `sinks`"],
    );
    check_errors(
        "- a\n",
        &[
            "1:1: expected a map with name, mode, parallelism, max_parallelism, state_ttl, consistency, time_zone, checkpoints, sources, steps, sinks, parameters, modes, found a list",
        ],
    );
    assert!(parse("a: [1, 2").is_err());
    assert!(parse("a: &x [*x]").is_err());
    assert!(parse("a: !tag 1").is_err());
    assert!(parse("name: a\n---\nname: b\n").is_err());
    assert!(parse("? [1]\n: 2\n").is_err());
    assert!(parse("\u{0}\u{1}").is_err());
}

#[test]
fn aliases_that_explode_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let errors = parse(&text).expect_err("must be refused");
    assert!(errors[0].message.contains("NODES_MAX"), "{errors:?}");
}

#[test]
fn references_are_replaced_from_the_environment() {
    let lookup = |name: &str| (name == "HOST").then(|| "h${X}".to_string());
    let check = |text: &str, expected: &str| assert_eq!(expand_text(text, &lookup).unwrap(), expected);
    check("${HOST}:9092", "h${X}:9092");
    check("${PORT:-90}${HOST:-x}", "90h${X}");
    check("$${HOST} $5 $", "${HOST} $5 $");
    check("${PORT:-}", "");
    check("${HOST}${secret:a-b.c}$${secret:d}", "h${X}${secret:a-b.c}$${secret:d}");
    assert!(
        expand_text("${secret:../a}", &lookup)
            .unwrap_err()
            .contains("cannot name a secret")
    );
    assert!(
        expand_text("${HOST:-${secret:a}}", &lookup)
            .unwrap_err()
            .contains("cannot be a secret")
    );
    assert!(expand_text("${PORT}", &lookup).unwrap_err().contains("PORT is not set"));
    assert!(expand_text("${PORT", &lookup).is_err());
    assert!(expand_text("${1}", &lookup).is_err());

    let mut parsed = parse(&TOLL.replace("localhost:9092", "${NO}")).unwrap();
    let errors = expand(&mut parsed.spec, &parsed.positions, &BTreeMap::new(), &lookup).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "8:25: sources.entries.options.brokers: the environment variable NO is not set; set it, or write `${NO:-default}`"
    );
}

#[test]
fn secrets_are_never_printed() {
    let property = |key: &str, value: &str| Property {
        key: key.into(),
        value: value.into(),
    };
    let print = |key: &str, value: &str| format!("{:?}", property(key, value));
    assert_eq!(
        print("properties.sasl.password", "hunter2"),
        "properties.sasl.password: \"******\""
    );
    assert_eq!(print("password", "${PW}"), "password: \"${PW}\"");
    assert_eq!(print("password", "${PW:-x}"), "password: \"******\"");
    assert_eq!(
        print("url", "http://me:pw@host/a@b"),
        "url: \"http://me:******@host/a@b\""
    );
    assert_eq!(print("url", "http://host:80/a@b"), "url: \"http://host:80/a@b\"");
}

/// The list of fields, the messages and the schema name the same things.
#[test]
fn schema_fields_and_messages_agree() {
    let files = prost_reflect::DescriptorPool::decode(crate::DESCRIPTORS).unwrap();
    for (message, list, key) in [
        ("JobSpec", fields::JOB, None),
        ("Consistency", fields::CONSISTENCY, None),
        ("Checkpoints", fields::CHECKPOINTS, None),
        ("Source", fields::SOURCE, Some("name")),
        ("EventTime", fields::EVENT_TIME, None),
        ("Column", fields::COLUMN, Some("name")),
        ("Step", fields::STEP, Some("name")),
        ("Sink", fields::SINK, Some("name")),
    ] {
        let descriptor = files.get_message_by_name(&format!("millstream.v1.{message}")).unwrap();
        let wire: BTreeSet<String> = descriptor
            .fields()
            .map(|field| field.name().trim_end_matches("_ms").replace("computed", "as"))
            .filter(|name| Some(name.as_str()) != key)
            .collect();
        let listed: BTreeSet<String> = list.iter().map(|field| field.name.to_string()).collect();
        assert_eq!(wire, listed, "{message}");
    }
    let schema = json_schema();
    let names: Vec<_> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let listed: Vec<_> = fields::JOB.iter().map(|field| field.name).collect();
    assert_eq!(names, listed);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "\\PC{0,12}",
        Just("null".to_string()),
        Just("~".to_string()),
        Just("1e3".to_string()),
        Just("a\n  b\n\nc\n".to_string()),
        Just(" \t\r\n'\"\\#: {}".to_string()),
        any::<String>(),
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[a-z_][a-z0-9_]{0,6}"
}

fn distinct<T: std::fmt::Debug>(
    values: impl Strategy<Value = T>,
    name: fn(&T) -> String,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(values, size).prop_map(move |values| {
        let mut seen = BTreeSet::new();
        values
            .into_iter()
            .filter(|value| seen.insert(name(value).to_lowercase()))
            .collect()
    })
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let column = (
        text(),
        proptest::option::of(text()),
        any::<bool>(),
        any::<bool>(),
        text(),
    )
        .prop_map(|(name, metadata, computed, is_virtual, text)| Column {
            name,
            r#type: (!computed).then(|| text.clone()),
            computed: computed.then_some(text),
            metadata: metadata.filter(|_| !computed),
            r#virtual: is_virtual,
        });
    distinct(column, |column| column.name.clone(), 0..4)
}

fn options() -> impl Strategy<Value = Vec<Property>> {
    let property = (text(), text()).prop_map(|(key, value)| Property { key, value });
    distinct(property, |property| property.key.clone(), 0..4)
}

fn spec() -> impl Strategy<Value = JobSpec> {
    let source = (
        name(),
        text(),
        options(),
        proptest::option::of(text()),
        columns(),
        0..4i32,
        any::<u32>(),
    )
        .prop_map(|(name, connector, options, format, columns, policy, number)| Source {
            name: format!("s{name}"),
            connector,
            options,
            format,
            event_time: (number % 2 == 0).then(|| EventTime {
                column: columns.first().map(|column| column.name.clone()).unwrap_or_default(),
                out_of_orderness_ms: (number % 4 == 0).then_some(u64::from(number)),
                idle_timeout_ms: Some(u64::from(number % 3) * 60_000),
                max_future_ms: None,
                expression: (number % 4 != 0).then(|| "a - b".to_string()),
            }),
            columns,
            on_error: Some(policy),
            partitioned_by: vec![],
            primary_key: (number % 5 == 0).then(|| "k".to_string()).into_iter().collect(),
        });
    let step = (name(), text()).prop_map(|(name, sql)| Step {
        name: format!("t{name}"),
        sql,
        on_error: None,
    });
    let sink = (name(), text(), columns(), proptest::collection::vec(text(), 0..3)).prop_map(
        |(name, from, columns, primary_key)| Sink {
            name,
            from,
            columns,
            primary_key,
            ..Sink::default()
        },
    );
    (
        name(),
        proptest::option::of(1..100u32),
        distinct(source, |source| source.name.clone(), 1..3),
        distinct(step, |step| step.name.clone(), 0..3),
        distinct(sink, |sink| sink.name.clone(), 1..3),
    )
        .prop_map(|(name, parallelism, sources, steps, sinks)| JobSpec {
            name,
            mode: parallelism.map(|number| (number % 3) as i32),
            parallelism,
            max_parallelism: None,
            state_ttl_ms: parallelism.map(|number| u64::from(number) * 3_600_000),
            time_zone: parallelism.map(|number| format!("GMT+{number}")),
            consistency: parallelism.map(|number| Consistency {
                interval_ms: Some(u64::from(number) * 11),
            }),
            checkpoints: parallelism.map(|number| Checkpoints {
                interval_ms: Some(u64::from(number) * 7),
                retain: Some(number),
                ..Checkpoints::default()
            }),
            sources,
            steps,
            sinks,
            ..JobSpec::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_spelling_loses_anything(spec in spec()) {
        let yaml = to_yaml(&spec);
        prop_assert_eq!(&parse(&yaml).map_err(|errors| format!("{errors:?}\n{yaml}")).unwrap().spec, &spec);
        let json = to_json(&spec);
        prop_assert_eq!(&parse(&json).map_err(|errors| format!("{errors:?}\n{json}")).unwrap().spec, &spec);
        prop_assert_eq!(&JobSpec::decode(spec.encode_to_vec().as_slice()).unwrap(), &spec);
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let outcome = parse(&text);
        prop_assert!(outcome.is_ok() || outcome.is_err());
    }
}

/// A pipeline whose source, sinks and one value differ between modes.
const MODES: &str = "
name: modes
sources:
  a: { connector: kafka, options: { topic: \"${TOPIC}\" }, format: json, columns: { n: bigint }, on_error: skip }
steps:
  s: { sql: \"SELECT n + ${param.gap} FROM a\" }
sinks:
  out: { from: s, connector: kafka, options: { topic: out }, format: json }
  late: { from: s.late, connector: print }
parameters:
  gap: { default: \"1\", batch: \"60\" }
modes:
  batch:
    sources:
      a: { connector: filesystem, options: { path: \"day=${param.gap}\" }, format: csv }
  serve:
    sources:
      a: { connector: request }
    sinks:
      out: { connector: response }
";

fn of_mode(text: &str, mode: Mode) -> Result<JobSpec, Vec<Error>> {
    let mut parsed = parse(text)?;
    let parameters = apply_mode(&mut parsed.spec, &mut parsed.positions, mode)?;
    let lookup = |name: &str| (name == "TOPIC").then(|| "events".to_string());
    expand(&mut parsed.spec, &parsed.positions, &parameters, &lookup)?;
    Ok(parsed.spec)
}

#[test]
fn a_mode_replaces_sources_sinks_and_values() {
    let stream = of_mode(MODES, Mode::Stream).unwrap();
    assert_eq!(stream.sources[0].options[0].value, "events");
    assert_eq!(stream.steps[0].sql, "SELECT n + 1 FROM a");
    assert_eq!(stream.sinks.len(), 2);

    let batch = of_mode(MODES, Mode::Batch).unwrap();
    assert_eq!(batch.sources[0].connector, "filesystem");
    assert_eq!(batch.sources[0].options[0].value, "day=60");
    assert_eq!(batch.sources[0].on_error, Some(ErrorPolicy::Skip as i32));
    assert_eq!(batch.sources[0].columns[0].name, "n");
    assert_eq!(batch.steps[0].sql, "SELECT n + 60 FROM a");
    assert_eq!(batch.sinks.len(), 2);

    let serve = of_mode(MODES, Mode::Serve).unwrap();
    assert!(serve.sources[0].options.is_empty() && serve.sources[0].format.is_none());
    assert_eq!(serve.sinks.len(), 1);
    assert_eq!(
        (serve.sinks[0].from.as_str(), serve.sinks[0].connector.as_str()),
        ("s", "response")
    );
    assert!(serve.modes.is_empty() && serve.parameters.is_empty());
}

#[test]
fn modes_and_parameters_are_written_as_they_were_read() {
    let spec = parse(MODES).unwrap().spec;
    assert_eq!(parse(&to_yaml(&spec)).unwrap().spec, spec);
    assert_eq!(parse(&to_json(&spec)).unwrap().spec, spec);
}

#[test]
fn mistakes_in_modes_name_their_place() {
    #[track_caller]
    fn check(from: &str, to: &str, mode: Mode, expected: &str) {
        let text = MODES.replacen(from, to, 1);
        assert_ne!(text, MODES, "{from}");
        let errors = of_mode(&text, mode).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, [expected]);
    }
    check(
        "      a: { connector: request }",
        "      b: { connector: request }",
        Mode::Serve,
        "18:7: modes.serve.sources.b: there is no source `b` to replace; a mode has the sources of `sources`, as its steps \
         are the same",
    );
    check(
        "      out: { connector: response }",
        "      answer: { connector: response }",
        Mode::Serve,
        "20:7: modes.serve.sinks.answer: `from` is missing: `sinks` has no `answer` whose input it could be; name a step \
         or source",
    );
    check(
        "default: \"1\", ",
        "",
        Mode::Serve,
        "11:3: parameters.gap: it has no value in the mode `serve`; give it `serve:` or `default:`",
    );
    check(
        "n + ${param.gap}",
        "n + ${param.gab}",
        Mode::Stream,
        "6:13: steps.s.sql: there is no parameter `gab`; did you mean `gap`?",
    );
    check(
        "  serve:\n    sources",
        "  service:\n    sources",
        Mode::Stream,
        "16:3: modes: unknown field `service`; did you mean `serve`?",
    );
}
