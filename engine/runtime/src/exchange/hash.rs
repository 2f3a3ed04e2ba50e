//! temp
use arrow::array::*;
pub fn hash_rows(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<(), crate::Error> {
    hashes.clear();
    hashes.resize(rows, 0);
    let converter = arrow_row::RowConverter::new(
        columns
            .iter()
            .map(|c| arrow_row::SortField::new(c.data_type().clone()))
            .collect(),
    )?;
    let encoded = converter.convert_columns(columns)?;
    for (hash, row) in hashes.iter_mut().zip(encoded.iter()) {
        *hash = xxhash_rust::xxh3::xxh3_64(row.data());
    }
    Ok(())
}
