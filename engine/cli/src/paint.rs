//! Colours and weights of text on a terminal (ANSI escape sequences).

/// A colour or weight of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Bold,
    Green,
    Yellow,
    Red,
    Dim,
}

impl Paint {
    /// Escape sequence that resets colour and weight.
    pub const END: &str = "\x1b[0m";

    /// Returns the escape sequence that selects this paint; empty for [`Self::Plain`].
    pub fn begin(self) -> String {
        let code = match self {
            Self::Plain => return String::new(),
            Self::Bold => 1,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
            Self::Dim => 2,
        };
        format!("\x1b[{code}m")
    }

    /// Returns the text between this colour's escape sequences.
    pub fn on(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_string(),
            _ => format!("{}{text}{}", self.begin(), Self::END),
        }
    }
}
