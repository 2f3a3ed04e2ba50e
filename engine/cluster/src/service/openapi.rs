//! Descriptions of services: a summary with the columns of their tables, and an OpenAPI document.

use std::sync::Arc;

use arrow_schema::{DataType, Field, SchemaRef};
use millstream_connectors::sql_type;
use serde_json::{Map, Value, json};

use super::Service;

/// Returns the name of a service, and the columns that it takes and gives.
pub(super) fn summary(service: &Arc<Service>) -> Value {
    let inputs = service
        .inputs
        .iter()
        .map(|input| (&input.table.name, &input.table.schema));
    let outputs = service.outputs.iter().map(|output| (&output.name, &output.schema));
    json!({
        "name": service.name(),
        "inputs": tables(inputs),
        "outputs": tables(outputs),
    })
}

fn tables<'a>(tables: impl Iterator<Item = (&'a String, &'a SchemaRef)>) -> Value {
    let columns = |schema: &SchemaRef| -> Value {
        let column = |field: &Arc<Field>| json!({ "name": field.name(), "type": sql_type::name(field.data_type()) });
        schema.fields().iter().map(column).collect()
    };
    tables
        .map(|(name, schema)| json!({ "name": name, "columns": columns(schema) }))
        .collect()
}

/// Returns the OpenAPI document of a service.
pub(super) fn document(service: &Arc<Service>) -> Value {
    let path = |call: &str| format!("/v1/pipelines/{}/{call}", service.name());
    let inputs: Vec<_> = service
        .inputs
        .iter()
        .map(|input| (&input.table.name, &input.table.schema))
        .collect();
    let outputs: Vec<_> = service
        .outputs
        .iter()
        .map(|output| (&output.name, &output.schema))
        .collect();
    let request = json!({
        "required": true,
        "content": { "application/json": { "schema": body(&inputs), "example": example(&inputs) } },
    });
    let failure = json!({
        "description": "The request has no result.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } },
    });
    let invoke = json!({
        "summary": format!("Run `{}` over the rows of the request.", service.name()),
        "operationId": "invoke",
        "parameters": [
            { "name": "trace", "in": "query", "schema": { "type": "string", "enum": ["steps"] },
              "description": "Return the output of each step, too." },
            { "name": "X-Timeout-Ms", "in": "header", "schema": { "type": "integer", "minimum": 1 },
              "description": "Time for the request." },
            { "name": "X-Request-Id", "in": "header", "schema": { "type": "string" },
              "description": "Id of the request; the response has the same." },
        ],
        "requestBody": request,
        "responses": {
            "200": {
                "description": "The rows of the result.",
                "content": { "application/json": { "schema": answer(&outputs) } },
            },
            "default": failure,
        },
    });
    let validate = json!({
        "summary": "Check the rows of a request without running the pipeline.",
        "operationId": "validate",
        "requestBody": request,
        "responses": {
            "200": { "description": "The number of rows of each table." },
            "default": failure,
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": service.name(), "version": env!("CARGO_PKG_VERSION") },
        "paths": { path("invoke"): { "post": invoke }, path("validate"): { "post": validate } },
        "components": { "schemas": { "Failure": failure_schema() } },
    })
}

fn failure_schema() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": { "type": "string" },
            "message": { "type": "string" },
            "errors": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "table": { "type": "string" },
                    "row": { "type": "integer" },
                    "message": { "type": "string" },
                },
            } },
            "errors_total": { "type": "integer" },
        },
    })
}

type Tables<'a> = [(&'a String, &'a SchemaRef)];

/// Returns the schema of a request body: a row or rows of one table, or an object with those of each.
fn body(tables: &Tables<'_>) -> Value {
    let rows = |schema: &SchemaRef| {
        let row = row(schema, true);
        json!({ "oneOf": [row, { "type": "array", "items": row }] })
    };
    match tables {
        [(_, schema)] => rows(schema),
        tables => object(
            tables.iter().map(|(name, schema)| ((*name).clone(), rows(schema))),
            true,
        ),
    }
}

/// Returns the schema of a response body.
fn answer(tables: &Tables<'_>) -> Value {
    let rows = |schema: &SchemaRef| json!({ "type": "array", "items": row(schema, false) });
    match tables {
        [(_, schema)] => rows(schema),
        tables => object(
            tables.iter().map(|(name, schema)| ((*name).clone(), rows(schema))),
            false,
        ),
    }
}

fn object(properties: impl Iterator<Item = (String, Value)>, is_closed: bool) -> Value {
    let mut object = json!({ "type": "object", "properties": properties.collect::<Map<_, _>>() });
    if is_closed {
        object["additionalProperties"] = false.into();
    }
    object
}

fn row(schema: &SchemaRef, is_closed: bool) -> Value {
    let fields = schema.fields();
    let mut row = object(
        fields.iter().map(|field| (field.name().clone(), value(field))),
        is_closed,
    );
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| !field.is_nullable())
        .map(|field| field.name().as_str())
        .collect();
    if !required.is_empty() {
        row["required"] = required.into();
    }
    row
}

/// Returns the schema of a column's values.
fn value(field: &Field) -> Value {
    let mut value = of_type(field.data_type());
    value["description"] = sql_type::name(field.data_type()).into();
    if field.is_nullable()
        && let Some(kind) = value.get("type").cloned()
    {
        value["type"] = json!([kind, "null"]);
    }
    value
}

fn of_type(data_type: &DataType) -> Value {
    match data_type {
        DataType::Boolean => json!({ "type": "boolean" }),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => json!({ "type": "integer" }),
        // Months, or milliseconds.
        interval if sql_type::is_interval(interval) => json!({ "type": "integer" }),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => json!({ "type": "number" }),
        DataType::List(item) => json!({ "type": "array", "items": value(item) }),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                json!({ "type": "object", "additionalProperties": value(&fields[1]) })
            }
            _ => json!({ "type": "object" }),
        },
        DataType::Struct(fields) => object(fields.iter().map(|field| (field.name().clone(), value(field))), true),
        _ => json!({ "type": "string" }),
    }
}

/// Returns an example of a request.
fn example(tables: &Tables<'_>) -> Value {
    let row = |schema: &SchemaRef| -> Value {
        let fields = schema.fields().iter();
        Value::Object(
            fields
                .map(|field| (field.name().clone(), example_of(field.data_type())))
                .collect(),
        )
    };
    match tables {
        [(_, schema)] => row(schema),
        tables => {
            let tables = tables
                .iter()
                .map(|(name, schema)| ((*name).clone(), json!([row(schema)])));
            Value::Object(tables.collect())
        }
    }
}

fn example_of(data_type: &DataType) -> Value {
    match data_type {
        DataType::Boolean => true.into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => 1.into(),
        interval if sql_type::is_interval(interval) => 1.into(),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => json!(1.5),
        DataType::Date32 => "2026-01-31".into(),
        DataType::Timestamp(_, None) => "2026-01-31 12:00:00".into(),
        DataType::Timestamp(_, Some(_)) => "2026-01-31 12:00:00Z".into(),
        DataType::Time32(_) | DataType::Time64(_) => "12:00:00".into(),
        DataType::List(item) => json!([example_of(item.data_type())]),
        DataType::Struct(fields) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|field| (field.name().clone(), example_of(field.data_type())))
                    .collect(),
            )
        }
        DataType::Map(..) => json!({}),
        _ => "text".into(),
    }
}
