//! Benchmark of the formats of records: rows per second decoded and encoded on one core.
//!
//! `cargo bench -p millstream-connectors`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_connectors::TableDefinition;
use millstream_connectors::format::{EncodedRecords, FormatSpec, Framing, Records};

fn main() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("auction", DataType::Int64, true),
        Field::new("bidder", DataType::Int64, true),
        Field::new("price", DataType::Int64, true),
        Field::new("channel", DataType::Utf8, true),
        Field::new("date_time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    let records = 8_192;
    let json: Vec<String> = (0..records)
        .map(|i| {
            format!(
                "{{\"auction\":{},\"bidder\":{},\"price\":{},\"channel\":\"channel-{}\",\"date_time\":\"2024-01-01 00:{:02}:{:02}.{:03}\"}}",
                1_000 + i % 977, 100_000 + i * 7 % 9_999, i * 131 % 1_000_003, i % 100, i / 60 % 60, i % 60, i % 1000
            )
        })
        .collect();
    let csv: Vec<String> = (0..records)
        .map(|i| {
            format!(
                "{},{},{},channel-{},2024-01-01 00:{:02}:{:02}.{:03}",
                1_000 + i % 977,
                100_000 + i * 7 % 9_999,
                i * 131 % 1_000_003,
                i % 100,
                i / 60 % 60,
                i % 60,
                i % 1000
            )
        })
        .collect();
    for (format, lines) in [("json", &json), ("csv", &csv)] {
        let mut data = Vec::new();
        let mut ranges = Vec::new();
        for line in lines {
            ranges.push((data.len(), data.len() + line.len()));
            data.extend_from_slice(line.as_bytes());
            data.push(b'\n');
        }
        let options = BTreeMap::from([("format".to_string(), format.to_string())]);
        let table = TableDefinition {
            name: "bid".to_string(),
            schema: schema.clone(),
            metadata: Vec::new(),
            options,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        };
        let spec = FormatSpec::of_value(&table).expect("the format exists");
        let mut decoder = spec
            .decoder(&schema, &[0, 1, 2, 3, 4])
            .expect("the format carries these columns");
        let mut rows = None;
        let bytes = data.len() / records;
        report(&format!("{format} decode, {bytes} bytes a row"), records, || {
            let decoded = decoder
                .decode(Records {
                    data: &data,
                    ranges: &ranges,
                })
                .expect("the rows decode");
            assert!(decoded.rejected.is_empty());
            rows = Some(decoded.rows);
        });
        let mut narrow = spec
            .decoder(&schema, &[0, 2])
            .expect("the format carries these columns");
        report(&format!("{format} decode, 2 of 5 columns"), records, || {
            narrow
                .decode(Records {
                    data: &data,
                    ranges: &ranges,
                })
                .expect("the rows decode");
        });
        let rows = rows.expect("decoded above");
        let mut encoder = spec
            .encoder(&schema, Framing::Bare)
            .expect("the format carries these columns");
        let mut out = EncodedRecords::default();
        report(&format!("{format} encode"), records, || {
            out.clear();
            encoder.encode(&rows, &mut out).expect("the rows encode");
        });
    }
}

/// Runs for a while and prints the best rate of several rounds.
fn report(what: &str, rows: usize, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..5 {
            run();
        }
        best = best.min(start.elapsed().as_secs_f64() / 5.0);
    }
    println!("{what:32} {:6.2} M rows/s", rows as f64 / best / 1e6);
}
