//! Verdicts about edited pipelines.

use std::sync::Arc;

use millstream_proto::v1::{self, pipeline};

use super::*;
use crate::job::{Job, Start};
use crate::resolve::{Overrides, resolve};
use crate::stored_pipeline;

const SCRIPT: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = 'a:9092', 'properties.sasl.password' = 'hush-1',
        'properties.sasl.username' = '${USER}', 'properties.ssl.key.password' = '${KEY}', 'topic' = 'events',
        'format' = 'json');
CREATE TABLE printed (k BIGINT, at TIMESTAMP(3), total BIGINT) WITH ('connector' = 'print');
CREATE VIEW sums AS -- hush-2
  SELECT k, window_start, sum(v) AS total
  FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE ts < NOW()
  GROUP BY k, window_start, window_end;
INSERT INTO printed SELECT * FROM sums;
";

fn job(text: &str, now_us: i64) -> Job {
    let pipeline = v1::Pipeline {
        pipeline: Some(pipeline::Pipeline::Sql(v1::SpecText {
            text: text.into(),
            file: "job.sql".into(),
        })),
        environment: [("USER", "someone"), ("KEY", "hush-3")]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into(),
    };
    match resolve(&pipeline, &Overrides::default(), now_us) {
        Ok(resolved) => resolved.job(1, "unused".into(), Start::Resume),
        Err(mistakes) => panic!("{mistakes:?}\n{text}"),
    }
}

/// A checkpoint in which every operator has state.
fn checkpoint(job: &Job) -> Snapshot {
    let state = SubtaskState {
        inline: vec![1],
        ..SubtaskState::default()
    };
    let nodes = job.graph.nodes.iter();
    let stateful = nodes.filter(|node| !matches!(node.operator, Operator::Calc(_) | Operator::Sink(_)));
    Snapshot {
        operators: stateful.map(|node| (node.id.clone(), vec![state.clone()])).collect(),
        ..Snapshot::empty(job, 7)
    }
}

async fn findings(base: &Snapshot, job: &Job) -> Findings {
    let compared = stored_pipeline::compare(base, &job.resolved, job.stored_pipeline.as_deref()).await;
    check(&job.graph, base, &compared.expect("planning does not panic"))
}

#[tokio::test]
async fn each_operator_has_its_verdict() {
    #[track_caller]
    fn edited(from: &str, to: &str) -> String {
        assert!(SCRIPT.contains(from), "{from}");
        SCRIPT.replace(from, to)
    }
    use Verdict::{ChangedMeaning, LosesState, NeedsMigration, SameMeaning};
    let base = checkpoint(&job(SCRIPT, 1_000_000));
    for (text, events, aggregate) in [
        (SCRIPT.to_string(), SameMeaning, Some(SameMeaning)),
        (edited("hush-1", "changed"), SameMeaning, Some(SameMeaning)),
        (edited("a:9092", "b:9092"), SameMeaning, Some(SameMeaning)),
        (
            edited("AS total\n", "AS total -- better\n"),
            SameMeaning,
            Some(SameMeaning),
        ),
        (edited("sum(v)", "sum(v + 1)"), SameMeaning, Some(ChangedMeaning)),
        (
            edited("= 'events',", "= 'others',"),
            ChangedMeaning,
            Some(ChangedMeaning),
        ),
        (edited("'10' SECOND", "'20' SECOND"), SameMeaning, Some(NeedsMigration)),
        (edited("sum(v)", "max(v)"), SameMeaning, Some(NeedsMigration)),
        (SCRIPT.replace("sums", "totals"), SameMeaning, None),
    ] {
        let found = findings(&base, &job(&text, 2_000_000)).await;
        let verdict = |operator: &str| {
            let mut all = found.operators.iter();
            all.find(|finding| finding.operator.0 == operator)
                .map(|finding| finding.verdict)
        };
        assert_eq!(verdict("events"), Some(events), "{text}\n{found:?}");
        assert_eq!(
            verdict("sums/aggregate"),
            Some(aggregate.unwrap_or(LosesState)),
            "{text}\n{found:?}"
        );
        // Only what keeps its layout can be accepted.
        let worst = events.max(aggregate.unwrap_or(LosesState));
        assert_eq!(found.verdict(), worst);
        assert_eq!(found.refusals(false).is_empty(), worst == SameMeaning);
        assert_eq!(
            found.refusals(true).is_empty(),
            worst <= ChangedMeaning,
            "{text}\n{found:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_names_operator_change_and_place() {
    let base = checkpoint(&job(SCRIPT, 0));
    let found = findings(&base, &job(&SCRIPT.replace("sum(v)", "sum(v + 1)"), 0)).await;
    assert_eq!(
        found.refusals(false),
        [
            "the state of `sums/aggregate` would mean something else: the aggregate changed from `sum(events.v)` to \
          `sum(events.v + 1)` (edited: step `sums`); undo the change, or accept that what is in its state now and what \
          comes later are mixed (--accept-changed-meaning)"
        ]
    );
    assert!(
        found
            .notes()
            .iter()
            .any(|note| note.starts_with("accepted: the state of `sums/aggregate`"))
    );
    let renamed = findings(&base, &job(&SCRIPT.replace("sums", "totals"), 0)).await;
    assert!(
        renamed.refusals(false)[0].contains("`totals/aggregate` does the same"),
        "{renamed:?}"
    );
}

#[tokio::test]
async fn without_the_old_plan_only_layouts_are_compared_and_a_note_says_so() {
    let other = job(&SCRIPT.replace("sum(v)", "sum(v + 1)"), 0);
    let migrated = job(&SCRIPT.replace("sum(v)", "max(v)"), 0);
    let base = checkpoint(&job(SCRIPT, 0));
    let unplannable = v1::ResolvedJob {
        pipeline: Some(millstream_proto::v1::resolved_job::Pipeline::Sql(
            SCRIPT.replace("sum(v)", "no_such_function(v)"),
        )),
        ..base_job().as_ref().clone()
    };
    for (pipeline, said) in [
        (None, "does not say which pipeline"),
        (Some("2:later".to_string()), "a newer engine wrote it"),
        (Some("1:???".to_string()), "it cannot be read"),
        (stored_pipeline::encode(&unplannable), "no_such_function"),
    ] {
        let base = Snapshot {
            pipeline,
            ..base.clone()
        };
        let found = findings(&base, &other).await;
        assert!(found.refusals(false).is_empty(), "{found:?}");
        assert!(
            found
                .notes
                .iter()
                .any(|note| note.contains(said) && note.contains("only the layout")),
            "{found:?}"
        );
        assert!(!findings(&base, &migrated).await.refusals(true).is_empty());
    }
}

fn base_job() -> Arc<v1::ResolvedJob> {
    job(SCRIPT, 0).resolved
}

#[test]
fn a_manifest_holds_the_pipeline_and_no_secrets() {
    let base = checkpoint(&job(SCRIPT, 0));
    let manifest = base.to_manifest(1, 0);
    let read = Snapshot::from_manifest(manifest);
    assert_eq!(read.pipeline, base.pipeline);
    let stored = stored_pipeline::decode(&read.pipeline.expect("it is stored")).expect("it is readable");
    let Some(v1::resolved_job::Pipeline::Sql(text)) = &stored.pipeline else {
        panic!("not a script: {stored:?}");
    };
    assert!(text.contains("CREATE VIEW sums") && !text.contains("hush"), "{text}");
    let variables: Vec<_> = stored.environment.into_iter().collect();
    assert_eq!(variables, [("USER".to_string(), "someone".to_string())]);
}

#[test]
fn the_secrets_of_a_spec_are_not_stored() {
    let text = "
name: job
sources:
  events:
    connector: kafka
    options: { properties.bootstrap.servers: a, topic: t, properties.sasl.password: hush-1 }
    format: json
    columns: { k: bigint }
  made:
    connector: datagen
    options: { fields.password.kind: random }
    columns: { password: string }
sinks:
  none: { from: made, connector: blackhole }
  out: { from: events, connector: filesystem, options: { path: p, store.aws_session_token: hush-2 }, format: json }
";
    let pipeline = v1::Pipeline {
        pipeline: Some(pipeline::Pipeline::Yaml(v1::SpecText {
            text: text.into(),
            file: "job.yaml".into(),
        })),
        ..v1::Pipeline::default()
    };
    let resolved = resolve(&pipeline, &Overrides::default(), 0).expect("a valid spec");
    let stored = stored_pipeline::encode(&resolved.resolved).expect("it can be stored");
    let stored = stored_pipeline::decode(&stored).expect("it is readable");
    let Some(v1::resolved_job::Pipeline::Spec(spec)) = stored.pipeline else {
        panic!("not a spec");
    };
    let values: Vec<&str> = spec.sources[0]
        .options
        .iter()
        .chain(&spec.sources[1].options)
        .chain(spec.sinks.iter().flat_map(|sink| &sink.options))
        .map(|property| property.value.as_str())
        .collect();
    // The name of a column is none.
    for kept in ["t", "p", "random"] {
        assert!(values.contains(&kept), "{values:?}");
    }
    assert!(!values.iter().any(|value| value.contains("hush")), "{values:?}");
}
