//! Metadata of records that a format reads.

use arrow_schema::DataType;

/// A metadata key that a format offers.
#[derive(Debug)]
pub struct FormatMetadata {
    /// Name of the metadata.
    pub key: &'static str,
    /// Returns the type of its column.
    pub data_type: fn() -> DataType,
}
