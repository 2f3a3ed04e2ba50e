//! The output of one stage of a chain.

use crate::element::Element;
use crate::operator::Collector;

/// Takes the rows that a source emits, and the elements that it sends between them.
pub(crate) trait StageOutput: Collector {
    /// Sends an element other than a batch to everything downstream, once.
    fn forward(&mut self, element: &Element);
}
