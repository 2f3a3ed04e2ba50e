//! Division of time into slices, and of windows into slices. Pure arithmetic.
//!
//! A row belongs to one slice. A tumbling window is one slice. A hopping window is `size / slide` slices of length
//! `slide`, each of which is shared by as many windows. Cumulating windows are the first one, two, three... slices of a
//! period. A slice is identified by its end. Every window ends where a slice ends.
//!
//! Arithmetic saturates: a row of year 1 or of year 9999 has a window like any other, and the window of a row at the
//! edge of `i64` ends there.

use millstream_graph::Window;

use crate::Error;

/// The windows of an operator, as slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slices {
    Tumble {
        size: i64,
        offset: i64,
    },
    Hop {
        size: i64,
        slide: i64,
        offset: i64,
    },
    Cumulate {
        size: i64,
        step: i64,
        offset: i64,
    },
    /// Rows carry their windows; each window is one slice.
    Attached,
}

/// Returns the start of the interval of `length`, aligned to `offset`, that contains `time`.
pub(super) fn floor(time: i64, length: i64, offset: i64) -> i64 {
    let into = time.saturating_sub(offset).rem_euclid(length);
    time.saturating_sub(into)
}

impl Slices {
    /// Creates the slices of a window. Returns an error if the window's size is not a multiple of its slide or step.
    pub(crate) fn new(window: &Window) -> Result<Self, Error> {
        let slices = match *window {
            Window::Tumble { size, offset } => Self::Tumble { size, offset },
            Window::Hop { size, slide, offset } => Self::Hop { size, slide, offset },
            Window::Cumulate { size, step, offset } => Self::Cumulate { size, step, offset },
            Window::Attached(_) => Self::Attached,
            Window::Session { .. } => {
                return Err(invalid("session windows have no slices"));
            }
        };
        let (size, part) = match slices {
            Self::Tumble { size, .. } => (size, size),
            Self::Hop { size, slide, .. } => (size, slide),
            Self::Cumulate { size, step, .. } => (size, step),
            Self::Attached => return Ok(slices),
        };
        if size <= 0 || part <= 0 || part > size || size % part != 0 {
            return Err(invalid(&format!(
                "a window of {size} µs cannot be cut into slices of {part} µs; the size must be a positive multiple"
            )));
        }
        Ok(slices)
    }

    /// Returns the length of a slice; 0 for attached windows, which have no common length.
    fn length(&self) -> i64 {
        match *self {
            Self::Tumble { size, .. } => size,
            Self::Hop { slide, .. } => slide,
            Self::Cumulate { step, .. } => step,
            Self::Attached => 0,
        }
    }

    fn offset(&self) -> i64 {
        match *self {
            Self::Tumble { offset, .. } | Self::Hop { offset, .. } | Self::Cumulate { offset, .. } => offset,
            Self::Attached => 0,
        }
    }

    /// Returns start and end of the slice that contains a time.
    pub(crate) fn slice_of(&self, time: i64) -> (i64, i64) {
        let start = floor(time, self.length(), self.offset());
        (start, start.saturating_add(self.length()))
    }

    /// Returns the start of a slice.
    pub(crate) fn slice_start(&self, slice_end: i64) -> i64 {
        slice_end.saturating_sub(self.length())
    }

    /// Returns the end of the last window that contains a slice. No window needs the slice after it has fired.
    pub(crate) fn last_window(&self, slice_end: i64) -> i64 {
        match *self {
            Self::Tumble { .. } | Self::Attached => slice_end,
            Self::Hop { size, slide, .. } => slice_end.saturating_add(size - slide),
            Self::Cumulate { size, offset, .. } => {
                floor(slice_end.saturating_sub(1), size, offset).saturating_add(size)
            }
        }
    }

    /// Returns the end of the first window after `fired` that contains a slice, if there is one.
    pub(crate) fn next_window(&self, slice_end: i64, fired: i64) -> Option<i64> {
        let next = if slice_end > fired {
            slice_end
        } else {
            match self {
                Self::Tumble { .. } | Self::Attached => return None,
                // The window that ends where the slice around `fired` ends: strictly after `fired`.
                Self::Hop { .. } | Self::Cumulate { .. } => self.slice_of(fired).1,
            }
        };
        (next <= self.last_window(slice_end)).then_some(next)
    }

    /// Returns the start of the window that ends at `end`. Its slices end in `(start, end]`.
    pub(crate) fn window_start(&self, end: i64) -> i64 {
        match *self {
            Self::Tumble { size, .. } | Self::Hop { size, .. } => end.saturating_sub(size),
            Self::Cumulate { size, offset, .. } => floor(end.saturating_sub(1), size, offset),
            Self::Attached => end.saturating_sub(1),
        }
    }

    /// Returns the slice for a row of slice `slice_end` when all windows up to `fired` have fired, or `None` if the row
    /// is late. A row of a slice that a cumulating window has emitted goes to the next slice of its period, because all
    /// windows that have not fired contain both.
    pub(crate) fn open_slice(&self, slice_end: i64, fired: i64) -> Option<i64> {
        if self.last_window(slice_end) <= fired {
            return None;
        }
        match self {
            Self::Cumulate { .. } if slice_end <= fired => Some(self.slice_of(fired).1),
            _ => Some(slice_end),
        }
    }

    /// Returns the ends of all windows that contain a time, ascending.
    pub(crate) fn windows_of(&self, time: i64) -> impl Iterator<Item = i64> + use<> {
        let (_, first) = self.slice_of(time);
        let last = self.last_window(first);
        let step = self.length().max(1);
        std::iter::successors(Some(first), move |end| end.checked_add(step)).take_while(move |end| *end <= last)
    }
}

fn invalid(message: &str) -> Error {
    Error::Operator {
        operator: "window".to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(slices: Slices, time: i64, windows: &[(i64, i64)]) {
        let found: Vec<(i64, i64)> = slices
            .windows_of(time)
            .map(|end| (slices.window_start(end), end))
            .collect();
        assert_eq!(found, windows);
    }

    #[test]
    fn windows_of_a_time() {
        let tumble = Slices::Tumble { size: 10, offset: 3 };
        check(tumble, 3, &[(3, 13)]);
        check(tumble, 2, &[(-7, 3)]);
        let hop = Slices::Hop {
            size: 10,
            slide: 5,
            offset: 0,
        };
        check(hop, 0, &[(-5, 5), (0, 10)]);
        check(hop, -1, &[(-10, 0), (-5, 5)]);
        let cumulate = Slices::Cumulate {
            size: 10,
            step: 4 / 2,
            offset: 0,
        };
        check(cumulate, 5, &[(0, 6), (0, 8), (0, 10)]);
        check(cumulate, -1, &[(-10, 0)]);
    }

    #[test]
    fn the_edges_of_time_do_not_overflow() {
        for slices in [
            Slices::Tumble { size: 10, offset: 9 },
            Slices::Hop {
                size: 10,
                slide: 5,
                offset: -9,
            },
            Slices::Cumulate {
                size: 10,
                step: 5,
                offset: 0,
            },
        ] {
            for time in [i64::MIN, i64::MIN + 1, -62_135_596_800_000_000, i64::MAX - 1, i64::MAX] {
                let (_, end) = slices.slice_of(time);
                slices.last_window(end);
                slices.next_window(end, i64::MIN);
                slices.next_window(end, i64::MAX);
                slices.windows_of(time).for_each(drop);
            }
        }
    }

    fn any_slices() -> impl Strategy<Value = Slices> {
        (1i64..20, 1i64..6, -30i64..30, 0..3).prop_map(|(part, count, offset, kind)| match kind {
            0 => Slices::Tumble { size: part, offset },
            1 => Slices::Hop {
                size: part * count,
                slide: part,
                offset,
            },
            _ => Slices::Cumulate {
                size: part * count,
                step: part,
                offset,
            },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Walking windows slice by slice finds exactly the windows that contain the time.
        #[test]
        fn slices_agree_with_windows(slices in any_slices(), time in -200i64..200) {
            let (_, slice) = slices.slice_of(time);
            let mut walked = Vec::new();
            let mut fired = i64::MIN / 2;
            while let Some(end) = slices.next_window(slice, fired) {
                walked.push(end);
                fired = end;
            }
            let windows: Vec<i64> = slices.windows_of(time).collect();
            prop_assert_eq!(&walked, &windows);
            for end in &windows {
                let start = slices.window_start(*end);
                prop_assert!(start <= time && time < *end);
                prop_assert!(start < slice && slice <= *end);
            }
            prop_assert_eq!(*windows.last().unwrap(), slices.last_window(slice));
        }
    }
}
