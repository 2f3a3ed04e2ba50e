//! Mistakes of a pipeline, on standard error.

use std::io::IsTerminal;

use millstream_proto::v1::Mistake;

/// All mistakes of a file, ready to be printed.
pub fn render(file: &str, text: &str, mistakes: &[Mistake]) -> String {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    millstream_proto::report::render(file, text, mistakes, color)
}
