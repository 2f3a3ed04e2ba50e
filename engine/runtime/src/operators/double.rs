//! Numbers with twice the digits of a floating-point number (double-double arithmetic, after Dekker and Knuth).

/// The value `high + low`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Double {
    pub high: f64,
    pub low: f64,
}

impl Double {
    /// Returns the exact sum of two numbers.
    pub(super) fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let of_b = high - a;
        let low = (a - (high - of_b)) + (b - of_b);
        Self { high, low }
    }

    /// Returns the exact product of two numbers.
    pub(super) fn product(a: f64, b: f64) -> Self {
        let high = a * b;
        Self {
            high,
            low: a.mul_add(b, -high),
        }
    }

    /// Returns the sum.
    pub(super) fn plus(self, other: Self) -> Self {
        let sum = Self::sum(self.high, other.high);
        let low = Self::sum(self.low, other.low);
        let sum = Self::sum(sum.high, sum.low + low.high);
        Self::sum(sum.high, sum.low + low.low)
    }

    /// Returns the product with 1 or -1.
    pub(super) fn times(self, sign: f64) -> Self {
        Self {
            high: self.high * sign,
            low: self.low * sign,
        }
    }

    /// Returns the square.
    pub(super) fn square(self) -> Self {
        let product = Self::product(self.high, self.high);
        Self::sum(product.high, product.low + 2.0 * self.high * self.low)
    }

    /// Returns the quotient.
    pub(super) fn divided_by(self, divisor: f64) -> Self {
        let quotient = self.high / divisor;
        let rest = self.plus(Self::product(quotient, divisor).times(-1.0));
        Self::sum(quotient, (rest.high + rest.low) / divisor)
    }

    /// Returns the nearest floating-point number.
    pub(super) fn rounded(self) -> f64 {
        self.high + self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_deviation_from_a_large_mean_is_precise() {
        let values = [1e9 + 0.25, 1e9 + 0.5, 1e9 + 0.75];
        let zero = Double::default();
        let sum = values
            .iter()
            .fold(zero, |sum, value| sum.plus(Double::sum(*value, 0.0)));
        let squares = values
            .iter()
            .fold(zero, |sum, value| sum.plus(Double::product(*value, *value)));
        let deviations = squares.plus(sum.square().divided_by(3.0).times(-1.0));
        assert!(
            (deviations.high + deviations.low - 0.125).abs() < 1e-9,
            "{deviations:?}"
        );
    }

    #[test]
    fn nothing_is_left_of_values_that_are_taken_back() {
        let values = [0.1, 1e-9, 12345.678, 3e7];
        let zero = Double::default();
        let squares = |sign: f64| {
            values
                .iter()
                .map(move |value| Double::product(*value, *value).times(sign))
        };
        let rest = squares(1.0).chain(squares(-1.0)).fold(zero, Double::plus);
        assert!(rest.high.abs() < 1e-12, "{rest:?}");
    }
}
