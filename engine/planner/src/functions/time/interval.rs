//! The text of intervals.

use std::fmt::Write;

use datafusion::arrow::datatypes::IntervalMonthDayNano;

use super::super::civil::DAY_US;

/// Writes an interval in Flink's form: `+1-06` for years and months, `+12 03:04:05.678` for days to milliseconds.
pub(super) fn write(interval: IntervalMonthDayNano, out: &mut impl Write) -> std::fmt::Result {
    let IntervalMonthDayNano {
        months,
        days,
        nanoseconds,
    } = interval;
    if months != 0 {
        let (sign, months) = (if months < 0 { '-' } else { '+' }, months.unsigned_abs());
        return write!(out, "{sign}{}-{:02}", months / 12, months % 12);
    }
    let total_us = i128::from(days) * i128::from(DAY_US) + i128::from(nanoseconds / 1000);
    let (sign, millis) = (if total_us < 0 { '-' } else { '+' }, total_us.unsigned_abs() / 1000);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    write!(
        out,
        "{sign}{} {:02}:{:02}:{:02}.{millis:03}",
        hours / 24,
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}
