//! The format JSON.

mod cursor;
pub(super) mod decoder;
pub(super) mod document;
pub(super) mod encoder;
mod scan;
