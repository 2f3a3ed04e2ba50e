//! Writing of dates, times and timestamps.

use millstream_proto::civil::civil_from_days;

use super::{DAY_US, TimestampStyle};

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

fn two_digits(value: u8) -> [u8; 2] {
    let at = usize::from(value) * 2;
    [PAIRS[at], PAIRS[at + 1]]
}

/// Appends a date given in days since the epoch.
pub(in crate::format) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    let (m, d) = (two_digits(month as u8), two_digits(day as u8));
    if (0..=9999).contains(&year) {
        let (y0, y1) = (two_digits((year / 100) as u8), two_digits((year % 100) as u8));
        out.extend_from_slice(&[y0[0], y0[1], y1[0], y1[1], b'-', m[0], m[1], b'-', d[0], d[1]]);
    } else {
        out.extend_from_slice(format!("{year:05}").as_bytes());
        out.extend_from_slice(&[b'-', m[0], m[1], b'-', d[0], d[1]]);
    }
}

/// Appends `HH:MM:SS`, and the fraction without trailing zeros.
pub(in crate::format) fn write_time(time_us: i64, out: &mut Vec<u8>) {
    let (seconds, mut fraction_us) = (time_us / 1_000_000, (time_us % 1_000_000) as u32);
    let (h, m, s) = (
        two_digits((seconds / 3600) as u8),
        two_digits((seconds / 60 % 60) as u8),
        two_digits((seconds % 60) as u8),
    );
    out.extend_from_slice(&[h[0], h[1], b':', m[0], m[1], b':', s[0], s[1]]);
    if fraction_us != 0 {
        let mut width = 6;
        while fraction_us % 10 == 0 {
            fraction_us /= 10;
            width -= 1;
        }
        let mut text = [b'0'; 7];
        text[0] = b'.';
        for index in (1..=width).rev() {
            text[index] = b'0' + (fraction_us % 10) as u8;
            fraction_us /= 10;
        }
        out.extend_from_slice(&text[..=width]);
    }
}

/// Appends a timestamp given in microseconds since the epoch, with `Z` if `utc`.
pub(in crate::format) fn write_timestamp(timestamp_us: i64, style: TimestampStyle, utc: bool, out: &mut Vec<u8>) {
    write_date(timestamp_us.div_euclid(DAY_US), out);
    out.push(match style {
        TimestampStyle::Sql => b' ',
        TimestampStyle::Iso8601 => b'T',
    });
    write_time(timestamp_us.rem_euclid(DAY_US), out);
    if utc {
        out.push(b'Z');
    }
}
