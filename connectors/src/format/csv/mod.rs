//! The format CSV.

pub mod decoder;
pub mod encoder;
pub mod header;
pub mod lines;
pub mod syntax;

/// The UTF-8 byte-order mark that some editors put at the beginning of a file.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
