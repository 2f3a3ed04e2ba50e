//! The group index of any key columns.

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use arrow_row::{RowConverter, SortField};
use millstream_graph::float_equality;

use super::GroupIndex;
use super::byte_keys::ByteTable;
use crate::Error;
use crate::operators::table::Select;

/// The index of any key columns, through Arrow's row format. Floats are compared as in SQL: both zeros are equal, and
/// so are all NaNs; the key encoding of the store agrees.
pub(super) struct RowIndex {
    converter: RowConverter,
    table: ByteTable,
    rows: Option<arrow_row::Rows>,
}

impl RowIndex {
    pub(super) fn new(fields: &[FieldRef]) -> Result<Self, Error> {
        let sort_fields = fields
            .iter()
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        Ok(Self {
            converter: RowConverter::new(sort_fields)?,
            table: ByteTable::new(),
            rows: None,
        })
    }

    /// Encodes keys as rows. The caller puts the result into `rows`, to be reused.
    fn encode(&mut self, keys: &[ArrayRef], rows: usize) -> Result<arrow_row::Rows, Error> {
        let mut scratch = match self.rows.take() {
            Some(scratch) => scratch,
            None => self.converter.empty_rows(rows, 0),
        };
        scratch.clear();
        let keys = keys
            .iter()
            .map(float_equality::normalize)
            .collect::<Result<Vec<_>, _>>()?;
        self.converter.append(&mut scratch, &keys)?;
        Ok(scratch)
    }
}

impl GroupIndex for RowIndex {
    fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        let encoded = self.encode(keys, rows)?;
        groups.clear();
        groups.extend(encoded.iter().map(|row| self.table.group_of(row.data())));
        self.rows = Some(encoded);
        Ok(())
    }

    fn find(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        let encoded = self.encode(keys, rows)?;
        groups.clear();
        groups.extend(encoded.iter().map(|row| self.table.lookup(row.data())));
        self.rows = Some(encoded);
        Ok(())
    }

    fn len(&self) -> usize {
        self.table.keys.ends.len()
    }

    fn keys(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let parser = self.converter.parser();
        Ok(self
            .converter
            .convert_rows(select.iter().map(|group| parser.parse(self.table.keys.get(group))))?)
    }

    fn reserve(&mut self, groups: usize) {
        self.table.reserve(groups);
    }

    fn size(&self) -> usize {
        self.table.size() + self.rows.as_ref().map_or(0, arrow_row::Rows::size)
    }

    fn growth(&self, groups: usize) -> usize {
        self.table.growth(groups)
    }

    fn freeze(&mut self) {
        self.table.freeze();
        self.rows = None;
    }

    fn clear(&mut self) {
        self.table.clear();
    }
}
