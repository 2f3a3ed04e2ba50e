//! Arguments that are compiled before they are used: date patterns and time zones.

use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::ScalarFunctionArgs;

use super::super::scalar::Texts;
use super::date_pattern::{Pattern, Style};
use super::zone::Zone;

/// The pattern of a missing argument.
pub(super) const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// The patterns of an argument; a pattern is compiled again only when it changes.
pub(super) struct Patterns<'a> {
    style: Style,
    /// `None` if the argument is missing.
    texts: Option<Texts<'a>>,
    last: Option<(&'a str, Option<Pattern>)>,
}

impl<'a> Patterns<'a> {
    /// Returns the patterns of an argument, or the default one if it is missing.
    pub(super) fn of(arguments: &'a ScalarFunctionArgs, index: usize, style: Style) -> Result<Self> {
        let texts = match index < arguments.args.len() {
            true => Some(Texts::of(arguments, index)?),
            false => None,
        };
        let constant = texts.as_ref().map_or(Some(DEFAULT_PATTERN), Texts::constant);
        let last = match constant.map(|text| (text, Pattern::new(style, text))) {
            Some((text, Ok(pattern))) => Some((text, Some(pattern))),
            Some((_, Err(message))) => return exec_err!("{message}"),
            None => None,
        };
        Ok(Self { style, texts, last })
    }

    /// Returns the pattern if it is the same for all rows.
    pub(super) fn constant(&self) -> Option<&Pattern> {
        self.last.as_ref()?.1.as_ref()
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.get(row).is_none())
    }

    pub(super) fn get(&mut self, row: usize) -> Option<&Pattern> {
        if let Some(texts) = &self.texts {
            let text = texts.get(row)?;
            if self.last.as_ref().is_none_or(|(last, _)| *last != text) {
                self.last = Some((text, Pattern::new(self.style, text).ok()));
            }
        }
        self.last.as_ref()?.1.as_ref()
    }
}

/// The time zones of an argument; a name is looked up again only when it changes.
pub(super) struct Zones<'a> {
    /// `None` if the argument is missing.
    texts: Option<Texts<'a>>,
    last: Option<(&'a str, Option<Zone>)>,
}

impl<'a> Zones<'a> {
    /// Returns the zones of an argument, or UTC if it is missing.
    pub(super) fn of(arguments: &'a ScalarFunctionArgs, index: usize) -> Result<Self> {
        let texts = match index < arguments.args.len() {
            true => Some(Texts::of(arguments, index)?),
            false => None,
        };
        let constant = texts.as_ref().map_or(Some("UTC"), Texts::constant);
        let last = match constant.map(|name| (name, Zone::of_java(name))) {
            Some((name, Ok(zone))) => Some((name, Some(zone))),
            Some((_, Err(message))) => return exec_err!("{message}"),
            None => None,
        };
        Ok(Self { texts, last })
    }

    /// Returns the zone of all rows.
    pub(super) fn constant(&self) -> Zone {
        self.last.and_then(|(_, zone)| zone).unwrap_or(Zone::UTC)
    }

    pub(super) fn get(&mut self, row: usize) -> Option<Zone> {
        if let Some(texts) = &self.texts {
            let name = texts.get(row)?;
            if self.last.is_none_or(|(last, _)| last != name) {
                self.last = Some((name, Zone::of_java(name).ok()));
            }
        }
        self.last?.1
    }
}
