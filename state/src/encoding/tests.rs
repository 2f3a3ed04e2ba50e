//! Golden vectors of both encodings, and properties: what is encoded reads back; keys order as their values do; no
//! bytes can make the decoder panic.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::*;
use arrow_buffer::{IntervalMonthDayNano, NullBuffer};
use arrow_schema::{Field, Fields};
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Both encodings of a column's rows, which must read back.
#[track_caller]
fn check(column: impl Array + 'static, keys: &[&str], values: &[&str]) {
    let column: ArrayRef = Arc::new(column);
    let types = [column.data_type().clone()];
    for (codec, expected) in [
        (Codec::keys(&types).unwrap(), keys),
        (Codec::values(&types).unwrap(), values),
    ] {
        let rows = codec.encode(std::slice::from_ref(&column)).unwrap();
        assert_eq!(rows.iter().map(hex).collect::<Vec<_>>(), expected);
        assert_eq!(&codec.decode(rows.iter()).unwrap()[0], &column);
    }
}

#[test]
fn numbers_are_golden() {
    check(
        Int32Array::from(vec![Some(1), Some(-2), None]),
        &["01 80 00 00 01", "01 7f ff ff fe", "00"],
        &["01 01 00 00 00", "01 fe ff ff ff", "00"],
    );
    check(UInt16Array::from(vec![258]), &["01 01 02"], &["01 02 01"]);
    check(
        Float32Array::from(vec![1.0, -1.0]),
        &["01 bf 80 00 00", "01 40 7f ff ff"],
        &["01 00 00 80 3f", "01 00 00 80 bf"],
    );
    check(
        BooleanArray::from(vec![Some(true), None, Some(false)]),
        &["01 01", "00", "01 00"],
        &["01 01", "00", "01 00"],
    );
    check(
        Decimal128Array::from(vec![-1]).with_precision_and_scale(10, 2).unwrap(),
        &["01 7f ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff"],
        &["01 ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff"],
    );
    check(
        TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"),
        &["01 80 00 00 00 00 00 00 01"],
        &["01 01 00 00 00 00 00 00 00"],
    );
    check(
        IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]),
        &["01 80 00 00 01 80 00 00 02 80 00 00 00 00 00 00 03"],
        &["01 01 00 00 00 02 00 00 00 03 00 00 00 00 00 00 00"],
    );
    check(NullArray::new(1), &["00"], &["00"]);
}

#[test]
fn strings_are_golden() {
    let keys = ["01 61 62 00 00", "00", "01 00 00", "01 61 00 ff 00 00"];
    let values = ["01 02 61 62", "00", "01 00", "01 02 61 00"];
    let strings = vec![Some("ab"), None, Some(""), Some("a\0")];
    check(StringArray::from(strings.clone()), &keys, &values);
    check(LargeStringArray::from(strings.clone()), &keys, &values);
    check(StringViewArray::from(strings.clone()), &keys, &values);
    check(
        BinaryArray::from_iter(strings.iter().map(|s| s.map(str::as_bytes))),
        &keys,
        &values,
    );
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1, 0]), None].into_iter(), 2).unwrap();
    check(fixed, &["01 01 00", "00"], &["01 01 00", "00"]);
}

#[test]
fn nested_values_are_golden() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    check(
        lists,
        &["01 01 01 80 00 00 01 01 00 00", "00", "01 00"],
        &["01 02 01 01 00 00 00 00", "00", "01 00"],
    );
    let structs = StructArray::new(
        Fields::from(vec![
            Field::new("a", DataType::Int8, true),
            Field::new("b", DataType::Utf8, true),
        ]),
        vec![
            Arc::new(Int8Array::from(vec![Some(1), None, None])),
            Arc::new(StringArray::from(vec![Some("x"), None, None])),
        ],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    check(
        structs,
        &["01 01 81 01 78 00 00", "00", "01 00 00"],
        &["01 01 01 01 01 78", "00", "01 00 00"],
    );
    let fixed = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>([None, Some(vec![Some(-1)])], 1);
    check(
        fixed,
        &["00", "01 01 01 7f ff ff ff ff ff ff ff 00"],
        &["00", "01 01 01 ff ff ff ff ff ff ff ff"],
    );
}

#[test]
fn equal_floats_have_equal_keys() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    let rows = Codec::keys(&[DataType::Float64]).unwrap().encode(&[column]).unwrap();
    assert_eq!(rows.row(0), rows.row(1));
    assert_eq!(rows.row(2), rows.row(3));
}

#[test]
fn long_strings_and_slices_read_back() {
    let column: ArrayRef = Arc::new(StringArray::from(vec![
        "x".repeat(300),
        "y\0".repeat(200),
        String::new(),
    ]));
    let column = column.slice(1, 2);
    for codec in [
        Codec::keys(&[DataType::Utf8]).unwrap(),
        Codec::values(&[DataType::Utf8]).unwrap(),
    ] {
        let rows = codec.encode(std::slice::from_ref(&column)).unwrap();
        assert_eq!(&codec.decode(rows.iter()).unwrap()[0], &column);
    }
}

#[test]
fn what_state_cannot_keep_is_refused() {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let error = Codec::keys(&[dictionary]).unwrap_err().to_string();
    assert!(error.contains("cannot be kept in state"), "{error}");
    let error = Codec::keys(&[DataType::Int8])
        .unwrap()
        .encode(&[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("0 columns"), "{error}");
}

type Row = (Option<i64>, Option<String>, Option<Vec<Option<i32>>>, Option<f64>);

fn row() -> impl Strategy<Value = Row> {
    let text = proptest::collection::vec(proptest::sample::select(vec!['\0', '\u{1}', 'a', 'b', 'ÿ']), 0..4);
    (
        proptest::option::of(prop_oneof![any::<i64>(), -2i64..2]),
        proptest::option::of(text.prop_map(|chars| chars.into_iter().collect())),
        proptest::option::of(proptest::collection::vec(proptest::option::of(-1i32..2), 0..3)),
        proptest::option::of(-1e9..1e9f64),
    )
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    let mut texts = StringBuilder::new();
    let mut lists = ListBuilder::new(Int32Builder::new());
    for (_, text, list, _) in rows {
        texts.append_option(text.as_deref());
        lists.append_option(list.clone());
    }
    vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
        Arc::new(texts.finish()),
        Arc::new(lists.finish()),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3))),
    ]
}

fn codecs() -> [Codec; 2] {
    let types: Vec<DataType> = columns(&[]).iter().map(|column| column.data_type().clone()).collect();
    [Codec::keys(&types).unwrap(), Codec::values(&types).unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_read_back_and_keys_order_as_rows(rows in proptest::collection::vec(row(), 1..12)) {
        let columns = columns(&rows);
        for codec in codecs() {
            let encoded = codec.encode(&columns).unwrap();
            prop_assert_eq!(&codec.decode(encoded.iter()).unwrap(), &columns);
            for subset in 0..1 << columns.len() {
                let wanted: Vec<usize> = (0..columns.len()).filter(|column| subset >> column & 1 == 1).collect();
                let expected: Vec<ArrayRef> = wanted.iter().map(|column| Arc::clone(&columns[*column])).collect();
                prop_assert_eq!(&codec.decode_some(encoded.iter(), &wanted).unwrap(), &expected);
            }
        }
        let encoded = codecs()[0].encode(&columns).unwrap();
        for a in 0..rows.len() {
            for b in 0..rows.len() {
                let expected = rows[a].partial_cmp(&rows[b]).unwrap_or(Ordering::Equal);
                prop_assert_eq!(encoded.row(a).cmp(encoded.row(b)), expected, "{:?} {:?}", &rows[a], &rows[b]);
            }
        }
    }

    #[test]
    fn damaged_rows_never_panic(rows in proptest::collection::vec(row(), 1..4), at in any::<u16>(), byte in any::<u8>()) {
        for codec in codecs() {
            let encoded = codec.encode(&columns(&rows)).unwrap();
            let mut bytes = encoded.row(0).to_vec();
            let at = at as usize % bytes.len();
            bytes[at] = byte;
            for damaged in [&bytes[..], &bytes[..at]] {
                if let Ok(columns) = codec.decode([damaged]) {
                    prop_assert_eq!(columns[0].len(), 1);
                }
            }
        }
    }
}
