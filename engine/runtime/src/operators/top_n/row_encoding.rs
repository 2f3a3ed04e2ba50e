//! Encodings of rows and of their order as byte strings.

use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder};
use arrow::datatypes::{DataType, Schema};
use arrow_array::RecordBatch;
use datafusion::physical_expr::PhysicalSortExpr;
use millstream_state::Codec;

use crate::Error;

/// The order of rows, as byte strings that compare as the rows do.
///
/// A sort key is the order columns one after the other, each in the encoding of keys; the bytes of a descending column
/// are inverted. The first byte of a column tells NULL from other values: it is less for those that come first.
pub(in crate::operators) struct SortKeys {
    order: Vec<(PhysicalSortExpr, Codec)>,
}

impl SortKeys {
    pub(in crate::operators) fn new(order: &[PhysicalSortExpr], input: &Schema) -> Result<Self, Error> {
        let order = order.iter().map(|sort| {
            let data_type = sort.expr.data_type(input)?;
            Ok((sort.clone(), Codec::keys(&[data_type])?))
        });
        Ok(Self {
            order: order.collect::<Result<_, Error>>()?,
        })
    }

    /// Returns the sort keys of the rows of a batch.
    pub(in crate::operators) fn encode(&self, batch: &RecordBatch) -> Result<BinaryArray, Error> {
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.order.len());
        for (sort, codec) in &self.order {
            let column = sort.expr.evaluate(batch)?.into_array(rows)?;
            let nulls = column.logical_nulls();
            columns.push((sort.options, nulls, codec.encode(&[column])?));
        }
        let mut keys = BinaryBuilder::with_capacity(rows, rows * 16 * columns.len());
        let mut key = Vec::new();
        for row in 0..rows {
            key.clear();
            for (options, nulls, encoded) in &columns {
                let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                key.push(u8::from(is_null != options.nulls_first));
                // The encoding begins with a byte for NULL, too, which the first byte replaces.
                let value = encoded.row(row).get(1..).unwrap_or_default();
                match options.descending {
                    false => key.extend_from_slice(value),
                    true => key.extend(value.iter().map(|byte| !byte)),
                }
            }
            keys.append_value(&key);
        }
        Ok(keys.finish())
    }
}

/// The columns of rows that are not partition columns, as byte strings.
pub(super) struct RowEncoding {
    /// The columns.
    pub columns: Vec<usize>,
    /// Number of columns of the input, without the kind.
    pub width: usize,
    codec: Codec,
}

impl RowEncoding {
    /// Returns the encoding of the first `width` columns of `input` without the partition columns. With `has_equality`,
    /// equal rows have equal bytes, and rows are ordered as their bytes are.
    pub(super) fn new(input: &Schema, partition: &[usize], width: usize, has_equality: bool) -> Result<Self, Error> {
        let columns: Vec<usize> = (0..width).filter(|column| !partition.contains(column)).collect();
        let types: Vec<DataType> = columns
            .iter()
            .map(|column| input.field(*column).data_type().clone())
            .collect();
        Ok(Self {
            codec: match has_equality {
                true => Codec::keys(&types)?,
                false => Codec::values(&types)?,
            },
            columns,
            width,
        })
    }

    /// Encodes rows. `columns` are all columns of the input.
    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<BinaryArray, Error> {
        if self.columns.is_empty() {
            return Ok(BinaryArray::from_iter_values((0..rows).map(|_| [])));
        }
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| columns[*column].clone()).collect();
        let encoded = self.codec.encode(&columns)?;
        let mut array = BinaryBuilder::with_capacity(rows, encoded.bytes().len());
        encoded.iter().for_each(|row| array.append_value(row));
        Ok(array.finish())
    }

    /// Returns the columns of encoded rows.
    pub(super) fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        Ok(self.codec.decode(rows)?)
    }
}
