//! Encodes the rows of a pipeline's sinks to the body of a response.
//!
//! One sink: its rows, as a JSON array, NDJSON or CSV. Several sinks: a JSON object with the rows of each.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millstream_connectors::TableDefinition;
use millstream_connectors::format::{EncodedRecords, Encoder, FormatSpec, Framing};
use millstream_graph::{JobGraph, NodeIndex, Port};
use millstream_runtime::request::{NodeTrace, RequestOutput};

use super::Failure;
use super::pool::Pool;
use crate::Error;

/// Most rows of one operator in a trace.
const TRACED_ROWS_MAX: usize = 100;

/// Content type of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerFormat {
    Json,
    Ndjson,
    Csv,
}

impl AnswerFormat {
    /// Returns the format that the header `Accept` asks for.
    pub(super) fn of(accept: Option<&str>) -> Result<Self, Failure> {
        let Some(accept) = accept else { return Ok(Self::Json) };
        for media in accept.split(',') {
            match media.split(';').next().unwrap_or_default().trim() {
                "application/json" | "application/*" | "*/*" | "" => return Ok(Self::Json),
                "application/x-ndjson" | "application/jsonl" | "application/ndjson" => return Ok(Self::Ndjson),
                "text/csv" => return Ok(Self::Csv),
                _ => {}
            }
        }
        Err(Failure::not_acceptable(format!(
            "nothing in `{accept}` can be sent; accept application/json, application/x-ndjson or text/csv"
        )))
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// A sink whose rows are in the response.
pub(super) struct Output {
    pub sink: NodeIndex,
    pub name: String,
    pub schema: SchemaRef,
    json: FormatSpec,
    csv: FormatSpec,
    json_encoders: Pool<Box<dyn Encoder>>,
}

impl Output {
    pub(super) fn new(sink: NodeIndex, name: String, schema: SchemaRef) -> Result<Self, Error> {
        Ok(Self {
            sink,
            json: spec(&name, &schema, "json")?,
            csv: spec(&name, &schema, "csv")?,
            name,
            schema,
            json_encoders: Pool::default(),
        })
    }
}

impl Output {
    /// Appends the rows of the sink as a JSON array.
    fn json_rows(&self, result: &RequestOutput, body: &mut Vec<u8>) -> Result<(), millstream_connectors::Error> {
        let make = || self.json.encoder(&self.schema, Framing::Bare);
        self.json_encoders
            .with(make, |encoder| json_rows(encoder.as_mut(), rows_of(self, result), body))
    }
}

fn spec(name: &str, schema: &SchemaRef, format: &str) -> Result<FormatSpec, millstream_connectors::Error> {
    let mut options = vec![("format".to_string(), format.to_string())];
    if format == "csv" {
        options.push(("csv.header".to_string(), "true".to_string()));
    }
    FormatSpec::of_value(&TableDefinition {
        name: name.to_string(),
        schema: schema.clone(),
        metadata: Vec::new(),
        options: options.into_iter().collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    })
}

/// Encodes the result of a request. `graph` names the operators of a trace, if there is one.
pub(super) fn encode(
    outputs: &[Output],
    result: &RequestOutput,
    format: AnswerFormat,
    graph: Option<&JobGraph>,
) -> Result<Vec<u8>, Failure> {
    encode_rows(outputs, result, format, graph).map_err(|error| Failure::internal(error.to_string()))?
}

fn encode_rows(
    outputs: &[Output],
    result: &RequestOutput,
    format: AnswerFormat,
    graph: Option<&JobGraph>,
) -> Result<Result<Vec<u8>, Failure>, millstream_connectors::Error> {
    let mut body = Vec::new();
    if let Some(graph) = graph {
        if format != AnswerFormat::Json {
            return Ok(Err(Failure::not_acceptable("a trace is JSON; accept application/json")));
        }
        body.extend_from_slice(b"{\"result\":");
        json(outputs, result, &mut body)?;
        body.extend_from_slice(b",\"trace\":[");
        for (index, trace) in result.trace.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            json_trace(graph, trace, &mut body)?;
        }
        body.extend_from_slice(b"]}");
        return Ok(Ok(body));
    }
    match (format, outputs) {
        (AnswerFormat::Json, outputs) => json(outputs, result, &mut body)?,
        (AnswerFormat::Ndjson, [output]) => lines(output, &output.json, result, &mut body)?,
        (AnswerFormat::Csv, [output]) => lines(output, &output.csv, result, &mut body)?,
        (AnswerFormat::Ndjson | AnswerFormat::Csv, _) => {
            let message = "the pipeline answers with several tables; accept application/json";
            return Ok(Err(Failure::not_acceptable(message)));
        }
    }
    Ok(Ok(body))
}

/// Appends the rows of all sinks as JSON.
fn json(outputs: &[Output], result: &RequestOutput, body: &mut Vec<u8>) -> Result<(), millstream_connectors::Error> {
    if let [output] = outputs {
        return output.json_rows(result, body);
    }
    body.push(b'{');
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(serde_json::Value::from(output.name.as_str()).to_string().as_bytes());
        body.push(b':');
        output.json_rows(result, body)?;
    }
    body.push(b'}');
    Ok(())
}

fn rows_of<'a>(output: &Output, result: &'a RequestOutput) -> impl Iterator<Item = &'a RecordBatch> {
    let sink = output.sink;
    result
        .sinks
        .iter()
        .filter(move |(index, _)| *index == sink)
        .map(|(_, rows)| rows)
}

/// Appends rows as a JSON array.
fn json_rows<'a>(
    encoder: &mut dyn Encoder,
    rows: impl Iterator<Item = &'a RecordBatch>,
    body: &mut Vec<u8>,
) -> Result<(), millstream_connectors::Error> {
    let mut records = EncodedRecords::default();
    for rows in rows {
        encoder.encode(rows, &mut records)?;
    }
    body.push(b'[');
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(record);
    }
    body.push(b']');
    Ok(())
}

/// Appends the rows of one sink as lines.
fn lines(
    output: &Output,
    spec: &FormatSpec,
    result: &RequestOutput,
    body: &mut Vec<u8>,
) -> Result<(), millstream_connectors::Error> {
    let mut encoder = spec.encoder(&output.schema, Framing::Lines)?;
    body.extend(encoder.header().unwrap_or_default());
    let mut records = EncodedRecords::default();
    for rows in rows_of(output, result) {
        encoder.encode(rows, &mut records)?;
    }
    body.append(&mut records.data);
    Ok(())
}

/// Appends the output of one operator.
fn json_trace(graph: &JobGraph, trace: &NodeTrace, body: &mut Vec<u8>) -> Result<(), millstream_connectors::Error> {
    let rows = |port: Port| {
        trace
            .output
            .iter()
            .filter(move |(of, _)| *of == port)
            .map(|(_, rows)| rows)
    };
    let count = |port: Port| rows(port).map(|rows| rows.num_rows() as u64).sum::<u64>();
    let late: u64 = trace
        .output
        .iter()
        .filter(|(port, _)| matches!(port, Port::Late(_)))
        .map(|(_, rows)| rows.num_rows() as u64)
        .sum();
    let head = serde_json::json!({
        "operator": graph.nodes[trace.node].id.to_string(),
        "rows_in": trace.rows_in,
        "rows_out": count(Port::Main),
        "late_rows": late,
        "bad_rows": trace.bad_rows,
    })
    .to_string();
    body.extend_from_slice(head.trim_end_matches('}').as_bytes());
    for (name, port) in [("rows", Port::Main), ("dead_letters", Port::DeadLetters)] {
        let Some(schema) = rows(port).next().map(RecordBatch::schema) else {
            continue;
        };
        body.extend_from_slice(format!(",\"{name}\":").as_bytes());
        let mut left = TRACED_ROWS_MAX;
        let shown: Vec<RecordBatch> = rows(port)
            .map(|rows| {
                let shown = rows.slice(0, rows.num_rows().min(left));
                left -= shown.num_rows();
                shown
            })
            .collect();
        let mut encoder = spec(name, &schema, "json")?.encoder(&schema, Framing::Bare)?;
        json_rows(encoder.as_mut(), shown.iter(), body)?;
    }
    body.push(b'}');
    Ok(())
}
