//! The context in which an operator evaluates expressions, for functions that depend on more than their arguments:
//! `CURRENT_WATERMARK`, and `RAND` with a seed.
//!
//! An operator has a context of its own, and enters it while it evaluates ([`EvaluationContext::scope`]). Outside of
//! any context there is no watermark, and a sequence of random numbers begins with each call.

use std::cell::RefCell;
use std::collections::HashMap;

use arrow_schema::FieldRef;

thread_local! {
    /// The context that this thread evaluates in.
    static CURRENT: RefCell<Option<EvaluationContext>> = const { RefCell::new(None) };
}

/// The context of an operator's expressions. It is no state: it begins anew when the operator is restored.
#[derive(Debug, Default)]
pub struct EvaluationContext {
    /// The watermark of the operator in microseconds since the epoch; `None` before the first one.
    watermark: Option<i64>,
    /// The sequence of each call in the expressions, by the address of the call's result field, which is one per call.
    sequences: HashMap<usize, RandomSequence>,
}

impl EvaluationContext {
    /// Sets the watermark that expressions see.
    pub fn set_watermark(&mut self, watermark: i64) {
        // The first and the last watermark are no times.
        self.watermark = Some(watermark).filter(|watermark| !matches!(*watermark, i64::MIN | i64::MAX));
    }

    /// Calls a function, during which expressions are evaluated in this context on this thread.
    pub fn scope<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(Some(std::mem::take(self)));
        let result = call();
        *self = CURRENT.replace(outer).unwrap_or_default();
        result
    }
}

/// Returns the watermark of the operator that evaluates, in microseconds since the epoch; `None` before the first one.
pub fn watermark() -> Option<i64> {
    CURRENT.with_borrow(|context| context.as_ref()?.watermark)
}

/// Calls a function with the sequence of random numbers of a call, which is identified by the field of its result. The
/// sequence begins with the seed at the first call in a context.
pub fn with_sequence<T>(result: &FieldRef, seed: i64, call: impl FnOnce(&mut RandomSequence) -> T) -> T {
    CURRENT.with_borrow_mut(|context| match context {
        Some(context) => {
            let key = std::sync::Arc::as_ptr(result).addr();
            let sequence = context.sequences.entry(key);
            call(sequence.or_insert_with(|| RandomSequence::new(seed)))
        }
        None => call(&mut RandomSequence::new(seed)),
    })
}

/// The pseudo-random numbers of `java.util.Random`: a linear congruential generator with 48 bits of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RandomSequence(u64);

impl RandomSequence {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;

    /// Begins the sequence of a seed.
    pub fn new(seed: i64) -> Self {
        Self((seed.cast_unsigned() ^ Self::MULTIPLIER) & Self::MASK)
    }

    /// Returns the next number of this many bits.
    fn next(&mut self, bits: u32) -> i64 {
        self.0 = self.0.wrapping_mul(Self::MULTIPLIER).wrapping_add(0xB) & Self::MASK;
        (self.0 >> (48 - bits)).cast_signed()
    }

    /// Returns the next number from 0 to 1, without 1.
    pub fn next_double(&mut self) -> f64 {
        let number = (self.next(26) << 27) + self.next(27);
        number as f64 / (1_i64 << 53) as f64
    }

    /// Returns the next number from 0 to a positive bound, without the bound.
    pub fn next_below(&mut self, bound: i32) -> i32 {
        debug_assert!(bound > 0, "a bound of random numbers is positive");
        let bound = i64::from(bound);
        let mut number = self.next(31);
        if bound & (bound - 1) == 0 {
            number = (bound * number) >> 31;
        } else {
            // Numbers of the last, incomplete range of `bound` numbers are skipped.
            while number - number % bound + (bound - 1) > i64::from(i32::MAX) {
                number = self.next(31);
            }
            number %= bound;
        }
        i32::try_from(number).expect("the number is below the bound")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field};

    use super::*;

    /// The values are those of `new java.util.Random(seed)`.
    #[test]
    fn a_sequence_is_that_of_java() {
        let mut sequence = RandomSequence::new(42);
        let doubles = [sequence.next_double(), sequence.next_double()];
        assert_eq!(doubles, [0.7275636800328681, 0.6832234717598454]);
        let mut sequence = RandomSequence::new(42);
        let below_ten: Vec<i32> = (0..5).map(|_| sequence.next_below(10)).collect();
        assert_eq!(below_ten, [0, 3, 8, 4, 0]);
        let mut sequence = RandomSequence::new(42);
        let below_sixteen = sequence.next_below(16);
        assert!((0..16).contains(&below_sixteen));
    }

    #[test]
    fn each_call_of_a_context_has_a_sequence() {
        let field = || -> FieldRef { Arc::new(Field::new("", DataType::Float64, true)) };
        let (first, second) = (field(), field());
        let next = |field: &FieldRef| with_sequence(field, 1, RandomSequence::next_double);
        let mut context = EvaluationContext::default();
        let numbers = context.scope(|| [next(&first), next(&first), next(&second)]);
        assert_ne!(numbers[0], numbers[1]);
        assert_eq!(numbers[0], numbers[2]);
        let later = context.scope(|| next(&second));
        assert_eq!(later, numbers[1]);
        assert_eq!([next(&first), next(&first)], [numbers[0]; 2]);
    }

    #[test]
    fn the_watermark_is_that_of_the_context() {
        let mut context = EvaluationContext::default();
        context.set_watermark(7);
        assert_eq!(context.scope(watermark), Some(7));
        assert_eq!(watermark(), None);
        context.set_watermark(i64::MAX);
        assert_eq!(context.scope(watermark), None);
    }
}
