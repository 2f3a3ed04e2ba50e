//! The format JSON.

mod cursor;
pub mod decoder;
pub mod encoder;
