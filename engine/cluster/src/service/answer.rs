//! Encodes the rows of a pipeline's sinks to the body of a response.
//!
//! One sink: its rows, as a JSON array, NDJSON or CSV. Several sinks: a JSON object with the rows of each.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millstream_connectors::TableDefinition;
use millstream_connectors::format::{EncodedRecords, Encoder, FormatSpec, Framing};
use millstream_graph::{JobGraph, NodeIndex, Port};
use millstream_runtime::request::{NodeTrace, RequestOutput, SharedRows};

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
    /// Calls a function with an encoder of JSON records.
    fn with_json_encoder<T>(
        &self,
        call: impl FnOnce(&mut dyn Encoder) -> Result<T, millstream_connectors::Error>,
    ) -> Result<T, millstream_connectors::Error> {
        let make = || self.json.encoder(&self.schema, Framing::Bare);
        self.json_encoders.with(make, |encoder| call(encoder.as_mut()))
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
    json_outputs(outputs, body, |_, output, body| {
        output.with_json_encoder(|encoder| json_rows(encoder, rows_of(output, result), body))
    })
}

/// Appends the rows of all sinks as JSON: an array, or an object with an array for each of several sinks. `append`
/// appends an array.
fn json_outputs(
    outputs: &[Output],
    body: &mut Vec<u8>,
    mut append: impl FnMut(usize, &Output, &mut Vec<u8>) -> Result<(), millstream_connectors::Error>,
) -> Result<(), millstream_connectors::Error> {
    if let [output] = outputs {
        return append(0, output, body);
    }
    body.push(b'{');
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(serde_json::Value::from(output.name.as_str()).to_string().as_bytes());
        body.push(b':');
        append(index, output, body)?;
    }
    body.push(b'}');
    Ok(())
}

/// Encodes the result of requests that shared a batch: the JSON body of each response.
pub(super) fn encode_shared(
    outputs: &[Output],
    sinks: &[(NodeIndex, SharedRows)],
    requests: usize,
) -> Result<Vec<Vec<u8>>, millstream_connectors::Error> {
    let mut encoded = Vec::with_capacity(outputs.len());
    for output in outputs {
        let of_output = sinks.iter().filter(|(sink, _)| *sink == output.sink);
        let of_output: Vec<(EncodedRecords, &[usize])> = of_output
            .map(|(_, shared)| {
                let mut records = EncodedRecords::default();
                output.with_json_encoder(|encoder| encoder.encode(&shared.rows, &mut records))?;
                Ok((records, shared.ends.as_slice()))
            })
            .collect::<Result<_, millstream_connectors::Error>>()?;
        encoded.push(of_output);
    }
    let body = |request: usize| {
        let mut body = Vec::new();
        json_outputs(outputs, &mut body, |output, _, body| {
            let of_request = encoded[output].iter().flat_map(|(records, ends)| {
                let begin = request.checked_sub(1).map_or(0, |before| ends[before]);
                (begin..ends[request]).map(|row| records.record(row))
            });
            json_array(of_request, body);
            Ok(())
        })?;
        Ok(body)
    };
    (0..requests).map(body).collect()
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
    json_array(records.iter(), body);
    Ok(())
}

/// Appends JSON values as an array.
fn json_array<'a>(values: impl Iterator<Item = &'a [u8]>, body: &mut Vec<u8>) {
    body.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(value);
    }
    body.push(b']');
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
