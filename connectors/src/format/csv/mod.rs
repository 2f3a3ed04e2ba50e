//! The format CSV.

pub(super) mod decoder;
pub(super) mod encoder;
pub(super) mod header;
pub(super) mod lines;
pub(super) mod syntax;

/// The UTF-8 byte-order mark that some editors put at the beginning of a file.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
