//! Equality of floating-point numbers.

use super::*;

/// All comparisons treat 0.0 and -0.0 as equal, and all NaNs as equal and greater than all other numbers.
#[test]
fn zeros_are_equal_and_so_are_nans() {
    const ZERO: &str = "CAST('-0.0' AS DOUBLE)";
    // The sign of these NaNs differs between machines.
    const NANS: [&str; 3] = ["CAST('NaN' AS DOUBLE)", "SQRT(-1)", "(0e0 / 0e0)"];
    let mut cases: Vec<(String, &str)> = Vec::new();
    for (template, expected) in [
        ("$z = 0e0", "true"),
        ("$z <> 0e0", "false"),
        ("$z < 0e0", "false"),
        ("$z >= 0e0", "true"),
        ("$z IS DISTINCT FROM 0e0", "false"),
        ("$z BETWEEN 0e0 AND 1e0", "true"),
        ("0e0 BETWEEN 0e0 AND $z", "true"),
        ("$z IN (0e0, 5e0, 6e0, 7e0, 8e0)", "true"),
        ("0e0 IN (1e0, $z)", "true"),
        ("$z NOT IN (0e0, 5e0, 6e0, 7e0, 8e0)", "false"),
        ("NULLIF($z, 0e0)", "NULL"),
        ("NULLIF(0e0, $z)", "NULL"),
        ("NULLIF(CAST('-0.0' AS FLOAT), CAST(0 AS FLOAT))", "NULL"),
        ("NULLIF($z, 0)", "NULL"),
        ("NULLIF($z, 0.0)", "NULL"),
        ("NULLIF(1e15, 1.0)", "1000000000000000.0"),
        ("NULLIF($z, 1e0)", "-0.0"),
        ("NULLIF(2, 2)", "NULL"),
        ("CASE $z WHEN 0e0 THEN 'zero' ELSE 'other' END", "zero"),
        ("CASE 0e0 WHEN 1e0 THEN 'one' WHEN $z THEN 'zero' END", "zero"),
        ("CASE $z WHEN 0 THEN 'zero' ELSE 'other' END", "zero"),
        ("CASE WHEN $z = 0e0 THEN 'zero' END", "zero"),
        ("ARRAY_CONTAINS(ARRAY[1e0, $z], 0e0)", "true"),
        ("CARDINALITY(ARRAY_DISTINCT(ARRAY[0e0, $z]))", "1"),
        ("CARDINALITY(ARRAY_REMOVE(ARRAY[0e0, $z, 1e0], 0e0))", "1"),
        ("CARDINALITY(ARRAY_UNION(ARRAY[0e0], ARRAY[$z]))", "1"),
        ("ARRAY_POSITION(ARRAY[1e0, $z], 0e0)", "2"),
        ("ARRAY[$z] = ARRAY[0e0]", "true"),
        ("GREATEST($z, 0e0) = 0e0", "true"),
    ] {
        cases.push((template.replace("$z", ZERO), expected));
    }
    for one in NANS {
        for other in NANS {
            for (template, expected) in [
                ("$a = $b", "true"),
                ("$a <> $b", "false"),
                ("$a > $b", "false"),
                ("$a IN ($b, 1e0)", "true"),
                ("NULLIF($a, $b)", "NULL"),
                ("CASE $a WHEN 1e0 THEN 1 WHEN $b THEN 2 END", "2"),
                ("ARRAY_CONTAINS(ARRAY[$a], $b)", "true"),
                ("CARDINALITY(ARRAY_DISTINCT(ARRAY[$a, $b]))", "1"),
            ] {
                cases.push((template.replace("$a", one).replace("$b", other), expected));
            }
        }
        for (template, expected) in [
            ("$a > 1e308", "true"),
            ("$a < -1e308", "false"),
            ("1e308 < $a", "true"),
            ("$a BETWEEN 0e0 AND 1e0", "false"),
            ("GREATEST($a, 1e0)", "NaN"),
            ("LEAST($a, 1e0)", "1.0"),
        ] {
            cases.push((template.replace("$a", one), expected));
        }
    }
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(expression, expected)| (expression.as_str(), *expected))
        .collect();
    check(&cases);
}
