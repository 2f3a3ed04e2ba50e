//! Selection of the values at a path, as slices of the text.

use super::path::{Path, Step};
use super::reader::{self, Read, Reader};

/// The values that a path selects in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selected<'a> {
    /// The value of a path that selects one value at most.
    One(&'a str),
    /// The values of a path that may select several.
    Many(Vec<&'a str>),
    /// The path does not exist in the text.
    Nothing,
    /// The text is not JSON.
    Malformed,
}

/// Selects values. The whole text is checked.
pub(super) fn select<'a>(text: &'a str, path: &Path) -> Selected<'a> {
    if path.is_definite() {
        let mut reader = Reader::new(text);
        let found = walk(&mut reader, &path.steps);
        return match (found, reader.end()) {
            (Ok(Some(value)), Ok(())) => Selected::One(value),
            (Ok(None), Ok(())) => Selected::Nothing,
            _ => Selected::Malformed,
        };
    }
    let Ok(value) = reader::checked(text) else {
        return Selected::Malformed;
    };
    let mut found = Vec::new();
    match collect(value, &path.steps, true, &mut found) {
        Ok(()) => Selected::Many(found),
        Err(Missing) => Selected::Nothing,
    }
}

/// Reads a value, and returns the part at a path that selects one value at most.
fn walk<'a>(reader: &mut Reader<'a>, steps: &[Step]) -> Read<Option<&'a str>> {
    let Some((step, rest)) = steps.split_first() else {
        return reader.value().map(Some);
    };
    let mut found = None;
    match (step, reader.peek()) {
        (Step::Key(key), Some(b'{')) => {
            let mut is_more = reader.enter(b'{', b'}')?;
            while is_more {
                let name = reader.name()?;
                if reader::is_equal(name, key) {
                    // Of several members of one name the last one counts.
                    found = walk(reader, rest)?;
                } else {
                    reader.value()?;
                }
                is_more = reader.next(b'}')?;
            }
        }
        (Step::Index(index), Some(b'[')) => {
            let wanted = match usize::try_from(*index) {
                Ok(index) => Some(index),
                Err(_) => position(*index, count(reader.clone())?),
            };
            let mut index = 0;
            let mut is_more = reader.enter(b'[', b']')?;
            while is_more {
                if Some(index) == wanted {
                    found = walk(reader, rest)?;
                } else {
                    reader.value()?;
                }
                index += 1;
                is_more = reader.next(b']')?;
            }
        }
        _ => {
            reader.value()?;
        }
    }
    Ok(found)
}

/// Returns the number of elements of the array that follows.
fn count(mut reader: Reader<'_>) -> Read<usize> {
    let mut count = 0;
    let mut is_more = reader.enter(b'[', b']')?;
    while is_more {
        reader.value()?;
        count += 1;
        is_more = reader.next(b']')?;
    }
    Ok(count)
}

/// Returns the position of an index in an array of `count` elements. Negative indices count from the end.
fn position(index: i64, count: usize) -> Option<usize> {
    let from_start = match index {
        0.. => index,
        _ => index + i64::try_from(count).ok()?,
    };
    usize::try_from(from_start).ok().filter(|index| *index < count)
}

/// A step before the first one that may select several values has found nothing.
struct Missing;

/// Collects the values of a checked value at a path. `is_definite` tells that no step before may select several values.
fn collect<'a>(value: &'a str, steps: &[Step], is_definite: bool, found: &mut Vec<&'a str>) -> Result<(), Missing> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return Ok(());
    };
    let is_missing = match is_definite {
        true => Err(Missing),
        false => Ok(()),
    };
    let first = value.as_bytes().first();
    let is_array_step = matches!(step, Step::Index(_) | Step::Indices(_) | Step::Range(..));
    if is_array_step && first != Some(&b'[') {
        return is_missing;
    }
    match step {
        Step::Key(key) => {
            if first != Some(&b'{') {
                return is_missing;
            }
            match reader::members(value).into_iter().find(|(name, _)| name == key) {
                Some((_, member)) => collect(member, rest, is_definite, found),
                None => is_missing,
            }
        }
        Step::Index(index) => {
            let elements = reader::elements(value);
            match position(*index, elements.len()) {
                Some(index) => collect(elements[index], rest, is_definite, found),
                None => Ok(()),
            }
        }
        Step::Indices(indices) => {
            let elements = reader::elements(value);
            let positions = indices.iter().filter_map(|index| position(*index, elements.len()));
            each(positions.map(|index| elements[index]), rest, found)
        }
        Step::Range(from, to) => {
            let elements = reader::elements(value);
            let count = i64::try_from(elements.len()).unwrap_or(i64::MAX);
            let bound = |bound: i64| if bound < 0 { bound + count } else { bound }.clamp(0, count);
            let (from, to) = (from.map_or(0, bound), to.map_or(count, bound));
            let kept = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
            each(elements.get(kept).into_iter().flatten().copied(), rest, found)
        }
        Step::All => each(children(value).into_iter(), rest, found),
        Step::Descendants => {
            let mut values = vec![value];
            while let Some(value) = values.pop() {
                if matches!(value.as_bytes().first(), Some(b'{' | b'[')) {
                    collect(value, rest, false, found)?;
                    values.extend(children(value).into_iter().rev());
                }
            }
            Ok(())
        }
    }
}

fn each<'a>(values: impl Iterator<Item = &'a str>, steps: &[Step], found: &mut Vec<&'a str>) -> Result<(), Missing> {
    for value in values {
        collect(value, steps, false, found)?;
    }
    Ok(())
}

/// Returns the elements of an array or the values of an object.
fn children(value: &str) -> Vec<&str> {
    match value.as_bytes().first() {
        Some(b'{') => reader::members(value).into_iter().map(|(_, member)| member).collect(),
        _ => reader::elements(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_select_values() {
        let text = r#"{"a": [{"b": 1.50}, {"c": 2}, [3], 4], "n": null, "o": {"x": 1, "y": [2, 3]}, "a\u0062": 9}"#;
        let many = |values: &[&'static str]| Selected::Many(values.to_vec());
        for (path, expected) in [
            ("$.a[0].b", Selected::One("1.50")),
            ("$.ab", Selected::One("9")),
            ("$.n", Selected::One("null")),
            ("$.a[-1]", Selected::One("4")),
            ("$.a[-5]", Selected::Nothing),
            ("$.a[9]", Selected::Nothing),
            ("$.a.b", Selected::Nothing),
            ("$.a[0][0]", Selected::Nothing),
            ("$.n.x", Selected::Nothing),
            ("$.a[*].b", many(&["1.50"])),
            ("$.a[*]", many(&[r#"{"b": 1.50}"#, r#"{"c": 2}"#, "[3]", "4"])),
            ("$.o.*", many(&["1", "[2, 3]"])),
            ("$.n.*", many(&[])),
            ("$.z[*]", Selected::Nothing),
            ("$.o[1:]", Selected::Nothing),
            ("$.o.y[0,1,7]", many(&["2", "3"])),
            ("$.a[1:3]", many(&[r#"{"c": 2}"#, "[3]"])),
            ("$.a[-2:]", many(&["[3]", "4"])),
            ("$.a[:-3]", many(&[r#"{"b": 1.50}"#])),
            ("$.a[3:1]", many(&[])),
            ("$..x", many(&["1"])),
            ("$..[0]", many(&[r#"{"b": 1.50}"#, "3", "2"])),
        ] {
            let parsed = Path::parse(path).expect("the path is valid");
            assert_eq!(select(text, &parsed), expected, "{path}");
        }
    }

    #[test]
    fn the_whole_text_is_checked() {
        let path = Path::parse("$.a").expect("the path is valid");
        for text in ["{\"a\": 1", "{\"a\": 1} x", "{\"a\": 1, \"b\": tru}", ""] {
            assert_eq!(select(text, &path), Selected::Malformed, "{text}");
        }
        assert_eq!(select("{\"a\": 1, \"b\": 1e999}", &path), Selected::One("1"));
        assert_eq!(select("{\"a\": 1, \"a\": 2}", &path), Selected::One("2"));
    }
}
