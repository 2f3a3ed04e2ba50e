//! Lists of byte strings in one cell. Each is preceded by its length (u32 LE).

/// Returns the byte strings of a cell.
pub(super) fn decode(mut cell: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    while let Some((length, rest)) = cell.split_first_chunk() {
        let Some((value, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            break;
        };
        values.push(value);
        cell = rest;
    }
    values
}

/// Returns the cell of byte strings.
pub(super) fn encode<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut cell = Vec::new();
    for value in values {
        cell.extend_from_slice(&(value.len() as u32).to_le_bytes());
        cell.extend_from_slice(value);
    }
    cell
}
