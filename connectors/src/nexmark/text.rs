//! The texts of events: slices of a pool of random text that is generated once, copied end to end into a column.

use arrow_array::StringArray;
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::random::Draws;

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u32 = 10_000;

/// Length of the pools of random letters; a power of two.
const POOL_BYTES: usize = 1 << 17;
/// Longest slice of a pool.
const SLICE_BYTES_MAX: usize = 1 << 16;

/// Fixed size in which short texts are copied; the excess is overwritten by the next text. A copy of a constant size
/// takes a few instructions.
const PIECE_BYTES: usize = 96;

/// The pools that the texts of events are slices of. Every pool ends with [`PIECE_BYTES`] of padding.
pub(super) struct Texts {
    /// Letters only.
    letters: Vec<u8>,
    /// Letters and occasional spaces.
    words: Vec<u8>,
    channels: Vec<u8>,
    hot_channels: [Channel; 4],
    cold_channels: Vec<Channel>,
}

/// The position of a channel's name and address in the pool of channels.
#[derive(Clone, Copy)]
pub(super) struct Channel {
    name: Slice,
    url: Slice,
}

#[derive(Clone, Copy)]
struct Slice {
    start: u32,
    length: u32,
}

impl Texts {
    pub(super) fn new(seed: u64) -> Self {
        let mut draws = Draws::of(seed, u64::MAX);
        let mut letter = |chance_of_space: u32| {
            let bits = draws.next();
            if chance_of_space > 0 && (bits >> 32).is_multiple_of(u64::from(chance_of_space)) {
                b' '
            } else {
                b'a' + (bits as u32 % 26) as u8
            }
        };
        let mut pool = |chance_of_space| -> Vec<u8> {
            (0..POOL_BYTES + SLICE_BYTES_MAX + PIECE_BYTES)
                .map(|_| letter(chance_of_space))
                .collect()
        };
        let (letters, words) = (pool(0), pool(13));
        let mut channels = ChannelPool {
            bytes: Vec::new(),
            draws: Draws::of(seed, u64::MAX - 1),
        };
        let hot_channels = HOT_CHANNELS.map(|name| {
            let url = channels.base_url();
            channels.add(name, &url)
        });
        let cold_channels = (0..CHANNELS).map(|number| channels.cold(number)).collect();
        let mut channels = channels.bytes;
        channels.extend([b' '; PIECE_BYTES]);
        Self {
            letters,
            words,
            channels,
            hot_channels,
            cold_channels,
        }
    }

    #[inline]
    pub(super) fn hot_channel(&self, bits: u32) -> Channel {
        self.hot_channels[(bits % 4) as usize]
    }

    #[inline]
    pub(super) fn cold_channel(&self, bits: u32) -> Channel {
        self.cold_channels[super::random::scale(bits, CHANNELS) as usize]
    }
}

struct ChannelPool {
    bytes: Vec<u8>,
    draws: Draws,
}

impl ChannelPool {
    fn base_url(&mut self) -> String {
        let mut url = String::from("https://www.nexmark.com/");
        for _ in 0..3 {
            for _ in 0..3 + self.draws.below(2) {
                let letter = if self.draws.below(13) == 0 {
                    '_'
                } else {
                    char::from(b'a' + self.draws.below(26) as u8)
                };
                url.push(letter);
            }
            url.push('/');
        }
        url + "item.htm?query=1"
    }

    /// Returns the name and id of a channel: the reversed bits of its number, so that they are not a sequence.
    fn cold(&mut self, number: u32) -> Channel {
        let id = number.reverse_bits().cast_signed().unsigned_abs();
        let mut url = self.base_url();
        if self.draws.below(10) > 0 {
            url = format!("{url}&channel_id={id}");
        }
        self.add(&format!("channel-{id}"), &url)
    }

    fn add(&mut self, name: &str, url: &str) -> Channel {
        Channel {
            name: self.slice(name),
            url: self.slice(url),
        }
    }

    fn slice(&mut self, text: &str) -> Slice {
        let slice = Slice {
            start: self.bytes.len() as u32,
            length: text.len() as u32,
        };
        self.bytes.extend_from_slice(text.as_bytes());
        slice
    }
}

/// A text column under construction.
pub(super) struct TextColumn {
    /// `offsets[row]` is the start of the row's text.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl TextColumn {
    pub(super) fn new(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            offsets,
            bytes: Vec::with_capacity(bytes + PIECE_BYTES),
        }
    }

    /// Ends the row that consists of the bytes appended since the last one.
    #[inline]
    pub(super) fn end_row(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Appends rows without text.
    pub(super) fn skip_rows(&mut self, rows: usize) {
        self.offsets.resize(self.offsets.len() + rows, self.bytes.len() as i32);
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> StringArray {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        // SAFETY: every pool is ASCII, so any slice of it is UTF-8, and `offsets` lie within `bytes` by construction.
        unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(self.bytes), nulls) }
    }

    #[inline]
    fn append(&mut self, pool: &[u8], start: usize, length: usize) {
        let end = self.bytes.len() + length;
        if length <= PIECE_BYTES {
            self.bytes.extend_from_slice(&pool[start..start + PIECE_BYTES]);
            self.bytes.truncate(end);
        } else {
            self.bytes.extend_from_slice(&pool[start..start + length]);
        }
    }

    #[inline]
    pub(super) fn channel_name(&mut self, texts: &Texts, channel: Channel) {
        self.append(
            &texts.channels,
            channel.name.start as usize,
            channel.name.length as usize,
        );
    }

    #[inline]
    pub(super) fn channel_url(&mut self, texts: &Texts, channel: Channel) {
        self.append(&texts.channels, channel.url.start as usize, channel.url.length as usize);
    }

    /// Appends exactly `length` letters, from the position in the pool that `bits` select.
    #[inline]
    pub(super) fn letters(&mut self, texts: &Texts, bits: u32, length: usize) {
        self.append(&texts.letters, bits as usize % POOL_BYTES, length.min(SLICE_BYTES_MAX));
    }

    /// Appends three to `length_max` letters and spaces, without a space at the ends.
    pub(super) fn words(&mut self, texts: &Texts, draws: &mut Draws, length_max: u32) {
        let start = draws.next() as usize % POOL_BYTES;
        let length = 3 + draws.below(length_max - 3) as usize;
        let text = texts.words[start..start + length].trim_ascii();
        self.bytes.extend_from_slice(text);
    }

    pub(super) fn name(&mut self, draws: &mut Draws) {
        self.push(FIRST_NAMES[draws.below(11) as usize]);
        self.push(" ");
        self.push(LAST_NAMES[draws.below(9) as usize]);
    }

    pub(super) fn email(&mut self, texts: &Texts, draws: &mut Draws) {
        self.words(texts, draws, 7);
        self.push("@");
        self.words(texts, draws, 5);
        self.push(".com");
    }

    pub(super) fn credit_card(&mut self, draws: &mut Draws) {
        for group in 0..4 {
            if group > 0 {
                self.push(" ");
            }
            let number = draws.below(10_000);
            for divisor in [1000, 100, 10, 1] {
                self.bytes.push(b'0' + (number / divisor % 10) as u8);
            }
        }
    }

    pub(super) fn city(&mut self, draws: &mut Draws) {
        self.push(CITIES[draws.below(10) as usize]);
    }

    pub(super) fn state(&mut self, draws: &mut Draws) {
        self.push(STATES[draws.below(6) as usize]);
    }

    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }
}
