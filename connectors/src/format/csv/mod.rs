//! The format CSV.

pub mod decoder;
pub mod encoder;
pub mod header;
pub mod lines;
pub mod syntax;
