//! Golden vectors: a failure here means that keys of existing checkpoints would be looked for in the wrong place.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::*;

use super::*;

fn hash(columns: &[ArrayRef]) -> Vec<u64> {
    let mut hashes = vec![1, 2, 3];
    hash_columns(columns, &mut hashes).unwrap();
    hashes
}

fn of(column: impl Array + 'static) -> Vec<u64> {
    hash(&[Arc::new(column)])
}

#[track_caller]
fn check(column: impl Array + 'static, expected: &[u64]) {
    let found = of(column);
    assert_eq!(found, expected, "found {found:#018x?}");
}

/// The specification, written a second time without any of the tricks.
fn reference(words: &[u64]) -> u64 {
    words.iter().fold(SEED, |hash, word| mix(hash ^ word))
}

#[test]
fn integers_are_golden() {
    check(
        Int64Array::from(vec![Some(0), Some(1), Some(-1), None]),
        &[
            reference(&[0]),
            reference(&[1]),
            reference(&[u64::MAX]),
            reference(&[NULL_WORD]),
        ],
    );
    check(Int64Array::from(vec![0, 1, 42]), GOLDEN_INTEGERS);
}

const GOLDEN_INTEGERS: &[u64] = &[0x4e17_cf67_001b_3979, 0xf762_2d37_84a0_ad54, 0x47d9_5004_a072_b9c3];
const GOLDEN_STRINGS: &[u64] = &[
    0x4e17_cf67_001b_3979,
    0xa91c_e815_0ca4_4956,
    0x5a71_8a4c_bf08_2b40,
    0x765b_46f7_d239_ca45,
];

#[test]
fn strings_are_golden() {
    let strings = vec!["", "a", "millstream", "0123456789abcdef!"];
    check(StringArray::from(strings.clone()), GOLDEN_STRINGS);
    assert_eq!(
        of(LargeStringArray::from(strings.clone())),
        of(StringArray::from(strings.clone()))
    );
    assert_eq!(
        of(StringViewArray::from(strings.clone())),
        of(StringArray::from(strings))
    );
}

#[test]
fn strings_follow_the_specification_at_every_length() {
    for length in 0..40usize {
        let bytes: Vec<u8> = (0..length)
            .map(|index| (index as u8).wrapping_mul(37).wrapping_add(1))
            .collect();
        let factor = (length as u64).wrapping_mul(LENGTH_FACTOR);
        let mut words: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                chunk
                    .iter()
                    .enumerate()
                    .fold(0, |word, (at, byte)| word | u64::from(*byte) << (8 * at))
            })
            .collect();
        match length {
            0 => words.push(0),
            1..=8 => words[0] = words[0].wrapping_add(factor),
            _ => words.push(factor),
        }
        assert_eq!(
            of(BinaryArray::from(vec![bytes.as_slice()])),
            [reference(&words)],
            "{length}"
        );
    }
}

#[test]
fn integers_of_all_widths_are_alike() {
    let expected = of(Int64Array::from(vec![5, -5]));
    assert_eq!(of(Int8Array::from(vec![5, -5])), expected);
    assert_eq!(of(Int32Array::from(vec![5, -5])), expected);
    assert_eq!(of(TimestampMicrosecondArray::from(vec![5, -5])), expected);
    assert_eq!(of(UInt16Array::from(vec![5])), expected[..1]);
}

#[test]
fn zeros_are_alike_and_nans_are_alike() {
    let hashes = of(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5]));
    assert_eq!(hashes[0], hashes[1]);
    assert_eq!(hashes[2], hashes[3]);
    assert_eq!(hashes[4], of(Float32Array::from(vec![1.5]))[0]);
}

#[test]
fn the_order_of_columns_and_the_place_of_nulls_matter() {
    let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let b: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("")]));
    let ab = hash(&[a.clone(), b.clone()]);
    let ba = hash(&[b, a]);
    assert!(ab[0] != ba[0] && ab[1] != ba[1] && ab[0] != ab[1]);
    assert!(hash(&[]).is_empty());
}

#[test]
fn slices_hash_as_their_rows_do() {
    let mut lists = ListBuilder::new(Int64Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    lists.append_value([Some(1), None]);
    let lists: ArrayRef = Arc::new(lists.finish());
    let all = hash(std::slice::from_ref(&lists));
    assert_eq!(all[0], all[2]);
    assert_ne!(all[0], all[1]);
    assert_eq!(hash(&[lists.slice(1, 2)]), all[1..]);
    let decimals = Decimal128Array::from(vec![Some(i128::MIN), None, Some(-1)]);
    assert_eq!(of(decimals.slice(1, 2)), of(decimals)[1..]);
}

#[test]
fn key_groups_are_spread_evenly() {
    use crate::key_group::KeyGroup;
    for stride in [1i64, 2, 128, 1000, 1 << 32] {
        let mut counts = [0u32; 128];
        for hash in of(Int64Array::from_iter_values((0..12_800).map(|row| row * stride))) {
            counts[KeyGroup::of_hash(hash, 128).0 as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (50..=160).contains(count)),
            "stride {stride}: {counts:?}"
        );
    }
}
