//! The columns of an object's fields.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Most fields in the cache; later fields are found by name.
const SEEN_MAX: usize = 64;
/// A byte that no record contains, since records are UTF-8.
const UNQUOTABLE: u8 = 0xFF;

/// Finds an object's columns by name, and caches the order of the fields of the last object.
#[derive(Default)]
pub(super) struct FieldOrder {
    by_name: ahash::AHashMap<Box<[u8]>, usize>,
    seen: Vec<Seen>,
}

/// A field of the last object.
struct Seen {
    /// The name in quotes and a colon, as in the record; [`UNQUOTABLE`] for a name with characters that are escaped
    /// there.
    token: Vec<u8>,
    /// The first bytes of the token, which are compared at once.
    head: u128,
    /// The bits of `head` that the token has.
    mask: u128,
    column: Option<usize>,
}

/// A field that a record continues with.
pub(super) struct Expected<'a> {
    /// Length of the name with its quotes and the colon.
    pub length: usize,
    /// The name without its quotes.
    pub name: &'a [u8],
    /// Its column.
    pub column: Option<usize>,
}

impl FieldOrder {
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let by_name = names
            .into_iter()
            .enumerate()
            .map(|(index, name)| (name.as_bytes().into(), index))
            .collect();
        Self {
            by_name,
            seen: Vec::new(),
        }
    }

    /// Returns the field if `record` continues with the name that the `nth` field of the last object had, in quotes,
    /// and a colon.
    #[inline]
    pub(super) fn expected(&self, nth: usize, record: &[u8]) -> Option<Expected<'_>> {
        let seen = self.seen.get(nth)?;
        let is_same = match record.split_first_chunk::<16>() {
            Some((head, rest)) => {
                u128::from_le_bytes(*head) & seen.mask == seen.head
                    && seen.token.get(16..).is_none_or(|token| rest.starts_with(token))
            }
            None => record.starts_with(&seen.token),
        };
        is_same.then(|| Expected {
            length: seen.token.len(),
            name: seen.name(),
            column: seen.column,
        })
    }

    /// Returns the column of the field `name`, which is the `nth` field of its object.
    pub(super) fn find(&mut self, nth: usize, name: &[u8]) -> Option<usize> {
        let column = self.by_name.get(name).copied();
        let seen = Seen::new(name, column);
        match self.seen.get_mut(nth) {
            Some(former) => *former = seen,
            None if nth < SEEN_MAX => self.seen.push(seen),
            None => {}
        }
        column
    }
}

impl Seen {
    fn new(name: &[u8], column: Option<usize>) -> Self {
        let token = match name.iter().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            true => vec![UNQUOTABLE],
            false => [b"\"", name, b"\":"].concat(),
        };
        let (mut head, mut mask) = ([0; 16], [0; 16]);
        for (byte, (head, mask)) in token.iter().zip(head.iter_mut().zip(&mut mask)) {
            (*head, *mask) = (*byte, 0xFF);
        }
        Self {
            token,
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
            column,
        }
    }

    fn name(&self) -> &[u8] {
        self.token.get(1..self.token.len() - 2).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds `names` as the fields of an object, and compares the field that is then expected at `record`.
    #[track_caller]
    fn check(names: &[&str], nth: usize, record: &str, expected: Option<(&str, Option<usize>)>) {
        let mut order = FieldOrder::new(["a", "a_name_that_is_longer_than_a_chunk", "c"]);
        for (nth, name) in names.iter().enumerate() {
            order.find(nth, name.as_bytes());
        }
        let found = order.expected(nth, record.as_bytes());
        if let Some(found) = &found {
            assert_eq!(found.length, found.name.len() + 3);
        }
        let found = found.map(|found| (std::str::from_utf8(found.name).expect("a name"), found.column));
        assert_eq!(found, expected, "{record}");
    }

    #[test]
    fn a_field_is_expected_where_the_last_object_had_it() {
        check(&["c", "a"], 0, r#""c":1,"a":2}"#, Some(("c", Some(2))));
        check(&["c", "a"], 1, r#""a":2}"#, Some(("a", Some(0))));
        check(
            &["c", "a"],
            1,
            r#""a":"a string of many characters"}"#,
            Some(("a", Some(0))),
        );
        check(&["c", "x"], 1, r#""x":null,"more":null}"#, Some(("x", None)));
        check(&["c", "a"], 2, r#""a":2}"#, None);
        check(&["c", "a"], 0, r#""a":2,"c":1,"more":1}"#, None);
        check(&["c", "a"], 0, r#""c" :1,"a":2,"more":1}"#, None);
        check(&["c"], 0, "", None);
        check(&["c"], 0, r#""c"#, None);
        let long = "a_name_that_is_longer_than_a_chunk";
        check(&[long], 0, &format!("\"{long}\":1}}"), Some((long, Some(1))));
        check(&[long], 0, &format!("\"{long}s\":1}}"), None);
        check(&[long], 0, &format!("\"{}\":1}}", &long[..20]), None);
        check(&["a \"b\""], 0, r#""a \"b\"":1,"c":2}"#, None);
    }
}
