//! Values of an Arrow column, for access by row without a distinction of types.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow_schema::DataType;

use super::layout::CellKind;
use crate::Error;
use crate::encoding::EncodedRows;

/// The values of one column.
pub(crate) struct ColumnValues {
    nulls: Option<NullBuffer>,
    data: Data,
}

enum Data {
    Fixed {
        buffer: Buffer,
        /// First byte of row 0.
        start: usize,
    },
    Boolean(BooleanBuffer),
    Bytes {
        offsets: ScalarBuffer<i32>,
        values: Buffer,
    },
    Encoded(EncodedRows),
}

impl ColumnValues {
    /// Returns the values of an array whose type belongs to `kind`.
    pub(crate) fn new(kind: &CellKind, array: &ArrayRef) -> Result<Self, Error> {
        let data = match kind {
            CellKind::Fixed(width) => {
                let data = array.to_data();
                let buffer = data.buffers().first().cloned().unwrap_or_default();
                Data::Fixed {
                    buffer,
                    start: data.offset() * width,
                }
            }
            CellKind::Boolean => Data::Boolean(array.as_boolean().values().clone()),
            CellKind::Bytes => match array.data_type() {
                DataType::Utf8 => {
                    let strings = array.as_string::<i32>();
                    Data::Bytes {
                        offsets: strings.offsets().inner().clone(),
                        values: strings.values().clone(),
                    }
                }
                _ => {
                    let bytes = array.as_binary::<i32>();
                    Data::Bytes {
                        offsets: bytes.offsets().inner().clone(),
                        values: bytes.values().clone(),
                    }
                }
            },
            CellKind::Encoded(codec) => {
                return Ok(Self {
                    // The encoding contains NULL.
                    nulls: None,
                    data: Data::Encoded(codec.encode(std::slice::from_ref(array))?),
                });
            }
        };
        Ok(Self {
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0).cloned(),
            data,
        })
    }

    #[inline(always)]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Returns the value of a fixed-width column. NULL has any value.
    #[inline(always)]
    pub(crate) fn fixed<const WIDTH: usize>(&self, row: usize) -> [u8; WIDTH] {
        match &self.data {
            Data::Fixed { buffer, start } => {
                let at = start + row * WIDTH;
                buffer.as_slice()[at..at + WIDTH].try_into().unwrap_or([0; WIDTH])
            }
            Data::Boolean(values) => {
                let mut value = [0; WIDTH];
                value[0] = values.value(row).into();
                value
            }
            Data::Bytes { .. } | Data::Encoded(_) => unreachable!("the column has no fixed width"),
        }
    }

    /// Returns the value of a column of variable width. NULL has any value.
    #[inline(always)]
    pub(crate) fn bytes(&self, row: usize) -> &[u8] {
        match &self.data {
            Data::Bytes { offsets, values } => &values.as_slice()[offsets[row] as usize..offsets[row + 1] as usize],
            Data::Encoded(rows) => rows.row(row),
            Data::Fixed { .. } | Data::Boolean(_) => unreachable!("the column has a fixed width"),
        }
    }
}
