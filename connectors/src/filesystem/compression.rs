//! Compression of files of lines: gzip and zstd.

use std::io::Read;

use crate::Error;

/// Compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not compressed.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more Zstandard frames.
    Zstd,
}

impl Compression {
    /// Returns the compression that the value of an option names; `auto` decides by the extension of `path`.
    pub(super) fn of(path: &str, option: &str) -> Self {
        let has_extension = |extension: &str| {
            let start = path.len().checked_sub(extension.len());
            let end = start.and_then(|start| path.get(start..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(extension))
        };
        match option.to_ascii_lowercase().as_str() {
            "none" => Self::None,
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            _ if has_extension(".gz") => Self::Gzip,
            _ if has_extension(".zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns the extension that compressed files get: `.gz`.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// Decompresses `input` while it is read.
    pub(super) fn reader(self, input: Box<dyn Read + Send>, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        Ok(match self {
            Self::None => input,
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(input)),
            Self::Zstd => Box::new(
                zstd::stream::read::Decoder::new(input)
                    .map_err(|error| super::error::io_error("cannot decompress", path, error))?,
            ),
        })
    }
}
