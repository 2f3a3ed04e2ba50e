//! Mutations of known inputs: small damage of the kinds that break parsers, determined by a seed.

/// SplitMix64 generator: a seed determines all inputs.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Most changes of one input.
const CHANGES_MAX: usize = 8;
/// Largest mutated input.
const INPUT_BYTES_MAX: usize = 16 << 10;
const BYTES: &[u8] = &[
    0, 1, 0x7f, 0x80, 0xff, b'"', b'\'', b'\\', b'\n', b'\r', b',', b'{', b'}', b'$', 0xc3, 0xf0,
];
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "255",
    "65536",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "1e-400",
    "0.1e1",
    "NaN",
    "99999999999999999999999999999999999999999",
];
/// Boundary values of lengths and counts in binary formats.
const LENGTHS: &[u64] = &[
    0,
    1,
    0x7f,
    0xfa,
    0xfb,
    0xfc,
    0xfd,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX,
];

/// Returns a mutation of one of the seeds.
pub fn input(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = random.pick(seeds).clone();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(random, &mut input, seeds, words);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let at = random.below(input.len() + 1);
    let until = (at + 1 + random.below(16)).min(input.len());
    match random.below(10) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = *random.pick(BYTES),
        2 => drop(input.drain(at.min(until)..until)),
        3 => {
            let piece = input[at.min(until)..until].to_vec();
            for _ in 0..=random.below(4) {
                input.splice(at..at, piece.iter().copied());
            }
        }
        4 => {
            let other = random.pick(seeds).clone();
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            input.splice(at..at, other[from..to].iter().copied());
        }
        5 => number(random, input, at),
        6 if !words.is_empty() => {
            let word = random.pick(words);
            input.splice(at..at, format!(" {word} ").bytes());
        }
        7 => {
            let length = random.pick(LENGTHS).to_le_bytes();
            let width = *random.pick(&[1, 2, 4, 8]);
            let end = (at + width).min(input.len());
            input.splice(at.min(end)..end, length[..width].iter().copied());
        }
        8 => input.truncate(at),
        _ => {
            let byte = *random.pick(BYTES);
            input.insert(at, byte);
        }
    }
}

/// Replaces the next digits by another number.
fn number(random: &mut Random, input: &mut Vec<u8>, from: usize) {
    let Some(start) = (from..input.len()).find(|at| input[*at].is_ascii_digit()) else {
        return;
    };
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    input.splice(start..start + length, random.pick(NUMBERS).bytes());
}
