//! Bitmaps, random numbers with a seed, objects and the watermark. The values are those of Flink's tests and of
//! `java.util.Random`.

use super::{check, value};

#[test]
fn bitmaps_are_sets_of_integers_without_sign() {
    check(&[
        ("BITMAP_TO_STRING(BITMAP_BUILD(ARRAY[3, 1, -1, 1]))", "{1,3,4294967295}"),
        (
            "BITMAP_TO_STRING(BITMAP_BUILD(ARRAY[-2147483648, -1, 1, 3, 2]))",
            "{1,2,3,2147483648,4294967295}",
        ),
        ("BITMAP_TO_STRING(BITMAP_BUILD(ARRAY[1, CAST(NULL AS INT), 1]))", "{1}"),
        ("BITMAP_TO_STRING(BITMAP_BUILD(ARRAY_REMOVE(ARRAY[1], 1)))", "{}"),
        (
            "BITMAP_TO_ARRAY(BITMAP_BUILD(ARRAY[-1, 1, 3, 2, -2147483648]))",
            "[1, 2, 3, -2147483648, -1]",
        ),
        (
            "BITMAP_TO_ARRAY(BITMAP_FROM_BYTES(BITMAP_TO_BYTES(BITMAP_BUILD(ARRAY[1, 2, 3, -4]))))",
            "[1, 2, 3, -4]",
        ),
        ("BITMAP_CARDINALITY(BITMAP_BUILD(ARRAY[1, 2, 3, -4]))", "4"),
        ("BITMAP_CARDINALITY(BITMAP_BUILD(ARRAY_REMOVE(ARRAY[1], 1)))", "0"),
        ("BITMAP_CARDINALITY(CAST(NULL AS BITMAP))", "NULL"),
        ("BITMAP_TO_STRING(CAST(NULL AS BYTES))", "NULL"),
        ("BITMAP_BUILD(CAST(NULL AS ARRAY<INT>))", "NULL"),
    ]);
}

#[test]
fn two_bitmaps_are_combined() {
    let of = |function: &str| {
        let call =
            format!("BITMAP_TO_STRING({function}(BITMAP_BUILD(ARRAY[1, 2, 3, -1]), BITMAP_BUILD(ARRAY[3, 4, -1])))");
        value(&call)
    };
    assert_eq!(of("BITMAP_AND"), "{3,4294967295}");
    assert_eq!(of("BITMAP_OR"), "{1,2,3,4,4294967295}");
    assert_eq!(of("BITMAP_XOR"), "{1,2,4}");
    assert_eq!(of("BITMAP_ANDNOT"), "{1,2}");
    check(&[("BITMAP_AND(BITMAP_BUILD(ARRAY[1]), CAST(NULL AS BITMAP))", "NULL")]);
}

/// The bytes are those of `RoaringBitmap.serialize` after `runOptimize`.
#[test]
fn bytes_are_those_of_the_portable_format() {
    check(&[
        (
            "HEX(BITMAP_BUILD(ARRAY[1, 5, 9]))",
            "3A300000010000000000020010000000010005000900",
        ),
        ("HEX(BITMAP_BUILD(ARRAY[1, 2, 3, 4]))", "3B3000000100000300010001000300"),
        ("BITMAP_TO_STRING(UNHEX('3B3000000100000300010001000300'))", "{1,2,3,4}"),
        (
            "HEX(BITMAP_TO_BYTES(UNHEX('3A3000000100000000000300100000000100020003000400')))",
            "3B3000000100000300010001000300",
        ),
        // A run of three values has the size of three values.
        (
            "HEX(BITMAP_ANDNOT(BITMAP_BUILD(ARRAY[1, 2, 3, 4]), BITMAP_BUILD(ARRAY[4])))",
            "3A300000010000000000020010000000010002000300",
        ),
        (
            "BITMAP_FROM_BYTES(UNHEX('00'))",
            "Execution error: the BYTES are no bitmap in the portable format of Roaring bitmaps: 1 bytes",
        ),
    ]);
}

#[test]
fn large_bitmaps_are_no_arrays() {
    // The values from 0 to 2^31, less one, in 32768 runs of 65536.
    let mut bitmap = roaring::RoaringBitmap::new();
    bitmap.insert_range(0..1 << 31);
    let bytes = crate::functions::bitmaps::write(&mut bitmap).expect("a bitmap is written");
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(value(&format!("BITMAP_CARDINALITY(UNHEX('{digits}'))")), "2147483648");
    assert!(value(&format!("BITMAP_TO_STRING(UNHEX('{digits}'))")).ends_with(",...}"));
    assert_eq!(
        value(&format!("BITMAP_TO_ARRAY(UNHEX('{digits}'))")),
        "Execution error: a bitmap of 2147483648 values is too large for an array: at most 16777216 values \
         (ARRAY_VALUES_MAX); count them with BITMAP_CARDINALITY"
    );
}

#[test]
fn random_numbers_with_a_seed_are_those_of_java() {
    check(&[
        ("RAND(42)", "0.7275636800328681"),
        ("RAND(1)", "0.7308781907032909"),
        ("RAND(CAST(NULL AS INT))", "NULL"),
        ("RAND_INTEGER(42, 10)", "0"),
        ("RAND_INTEGER(42, 16)", "11"),
        ("RAND_INTEGER(7, 100)", "36"),
        (
            "RAND_INTEGER(7, 0)",
            "Execution error: RAND_INTEGER takes a bound above 0, not 0",
        ),
    ]);
}

#[test]
fn objects_are_rows_with_names() {
    check(&[
        (
            "OBJECT_OF('com.example.Car', 'plate', 'AB 1', 'wheels', 4)",
            "{plate: AB 1, wheels: 4}",
        ),
        ("OBJECT_OF('Car', 'plate', 'AB 1', 'wheels', 4).wheels", "4"),
        (
            "OBJECT_UPDATE(OBJECT_OF('Car', 'plate', 'AB 1', 'wheels', 4), 'wheels', 3)",
            "{plate: AB 1, wheels: 3}",
        ),
        (
            "OBJECT_UPDATE(OBJECT_OF('Car', 'plate', 'AB 1', 'wheels', 4), 'wheels', CAST(NULL AS INT), 'plate', 'CD 2')",
            "{plate: CD 2, wheels: }",
        ),
    ]);
    assert!(
        value("OBJECT_UPDATE(OBJECT_OF('Car', 'plate', 'AB 1'), 'weels', 3)")
            .contains("the ROW has no field `weels`; it has plate")
    );
    assert!(value("OBJECT_OF('Car', 'plate')").contains("a value for each name of a field"));
}

#[test]
fn there_is_no_watermark_outside_of_an_operator() {
    check(&[("CURRENT_WATERMARK(TIMESTAMP '2024-01-01 10:20:30')", "NULL")]);
    assert!(value("CURRENT_WATERMARK(1)").contains("takes the event-time column of a table"));
}
