//! Compression of files of lines: gzip and zstd.

use std::io::Read;

use crate::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Of the file at `path`, where the option says `auto` or names one.
    pub fn of(path: &str, option: &str) -> Self {
        match option.to_ascii_lowercase().as_str() {
            "none" => Self::None,
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            _ if path.ends_with(".gz") => Self::Gzip,
            _ if path.ends_with(".zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// What is appended to the names of written files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    pub fn reader(self, input: Box<dyn Read + Send>, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        Ok(match self {
            Self::None => input,
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(input)),
            Self::Zstd => Box::new(
                zstd::stream::read::Decoder::new(input)
                    .map_err(|error| super::location::io("cannot decompress", path, error))?,
            ),
        })
    }
}
