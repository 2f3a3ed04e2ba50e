//! Tests of the crate as others see it: the example of `docs/connectors.md`, and that page itself.

mod documentation;
mod sequence;
