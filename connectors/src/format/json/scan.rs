//! Search for the bytes that end a run of plain characters in a string.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Returns the index of the first `"`, `\` or control character at or after `from`; the length if there is none.
#[inline]
pub(super) fn first_special(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let hits = specials(chunk);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += 16;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    let special = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    at + special.unwrap_or(tail.len())
}

/// Returns a bit for each special byte.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn specials(chunk: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: reads the 16 bytes of the array, at any alignment. SSE2 is part of the architecture.
    unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
        let last_control = _mm_set1_epi8(0x1F);
        let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"'.cast_signed()));
        let slashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\'.cast_signed()));
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, slashes), controls)).cast_unsigned()
    }
}

/// Returns a bit for each special byte.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn specials(chunk: &[u8; 16]) -> u32 {
    let is_special = |byte: u8| u32::from(byte == b'"') | u32::from(byte == b'\\') | u32::from(byte < 0x20);
    chunk.iter().rev().fold(0, |bits, byte| bits << 1 | is_special(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for length in 0..70 {
            let plain: Vec<u8> = (0..length)
                .map(|at| [b' ', b'!', b'#', b'[', b']', 0x7F, 0x80, 0xFF][at % 8])
                .collect();
            assert_eq!(first_special(&plain, 0), length);
            for at in 0..length {
                for special in [b'"', b'\\', 0, b'\n', 0x1F] {
                    let mut bytes = plain.clone();
                    bytes[at] = special;
                    assert_eq!(first_special(&bytes, 0), at);
                    assert_eq!(first_special(&bytes, at), at);
                    assert_eq!(first_special(&bytes, at + 1), length);
                }
            }
        }
    }
}
