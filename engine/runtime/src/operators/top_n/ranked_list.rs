//! The list of the first rows of a partition.
//!
//! A list is a byte string: its entries in the order of their ranks, each with its weight (u32 LE), the length of its
//! sort key (u32 LE) and the sort key, and the length of its row (u32 LE) and the row.

use millstream_graph::RankFunction;

use crate::operators::mutants::{self, Mutant};

/// Greatest size of a list: more rows of equal order may have one rank.
pub(super) const LIST_BYTES_MAX: usize = 256 << 20;

/// A row of a list, which is there `weight` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub sort_key: &'a [u8],
    pub row: &'a [u8],
    pub weight: u32,
}

/// A row with its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ranked<'a> {
    pub rank: u64,
    pub row: &'a [u8],
}

/// The entries of a list.
pub(super) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    pub(super) fn of(list: &'a [u8]) -> Self {
        Self(list)
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        Some(Entry {
            weight: self.number()?,
            sort_key: self.bytes()?,
            row: self.bytes()?,
        })
    }
}

/// Returns the list of some entries.
pub(super) fn list_of<'a>(entries: impl IntoIterator<Item = &'a Entry<'a>>) -> Vec<u8> {
    let mut list = Vec::new();
    for entry in entries {
        list.extend_from_slice(&entry.weight.to_le_bytes());
        for bytes in [entry.sort_key, entry.row] {
            list.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            list.extend_from_slice(bytes);
        }
    }
    list
}

/// The ranks that are emitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranks {
    pub function: RankFunction,
    /// The first rank, from 1.
    pub from: u64,
    /// The last rank.
    pub to: u64,
}

impl Ranks {
    /// Returns the entries with the rank of the first row of each.
    fn ranked<'a, E: Iterator<Item = Entry<'a>>>(self, entries: E) -> impl Iterator<Item = (Entry<'a>, u64)> {
        let (mut rank, mut rows) = (0, 0);
        let mut last: Option<&[u8]> = None;
        entries.map(move |entry| {
            let is_tie = last == Some(entry.sort_key) && !mutants::is_active(Mutant::TiesSeparated);
            last = Some(entry.sort_key);
            rank = match self.function {
                RankFunction::RowNumber => rows + 1,
                RankFunction::Rank if is_tie => rank,
                RankFunction::Rank => rows + 1,
                RankFunction::DenseRank => rank + u64::from(!is_tie),
            };
            rows += u64::from(entry.weight);
            (entry, rank)
        })
    }

    /// Returns the number of the first entries whose rank is not beyond the last one.
    pub(super) fn count<'a>(self, entries: impl Iterator<Item = Entry<'a>>) -> usize {
        self.ranked(entries).take_while(|(_, rank)| *rank <= self.to).count()
    }

    /// Returns true if the rows after these entries are beyond the last rank.
    pub(super) fn is_full<'a>(self, entries: impl Iterator<Item = Entry<'a>>) -> bool {
        let mut is_beyond = self.to == 0;
        let mut rows = 0;
        for (entry, rank) in self.ranked(entries) {
            rows += u64::from(entry.weight);
            is_beyond |= rank > self.to;
        }
        is_beyond || (self.function == RankFunction::RowNumber && rows >= self.to)
    }

    /// Returns the sort key beyond which no more row of append-only input is among the first; `None` if all may be.
    /// The flag is true if rows of that sort key are not, either, if they come later.
    pub(super) fn bound<'a>(self, entries: impl Iterator<Item = Entry<'a>>) -> Option<(&'a [u8], bool)> {
        let (mut rows, mut rank, mut last) = (0, 0, None);
        for (entry, entry_rank) in self.ranked(entries) {
            rows += u64::from(entry.weight);
            rank = entry_rank;
            last = Some(entry.sort_key);
        }
        let is_full = match self.function {
            RankFunction::RowNumber | RankFunction::Rank => rows >= self.to,
            RankFunction::DenseRank => rank >= self.to,
        };
        let last = last.filter(|_| is_full)?;
        Some((last, self.function == RankFunction::RowNumber))
    }

    /// Returns the rows of a list that are emitted.
    pub(super) fn selected<'a>(self, list: &'a [u8]) -> Vec<Ranked<'a>> {
        let mut selected = Vec::new();
        let to = self.to + u64::from(mutants::is_active(Mutant::RankTooMany));
        for (entry, first) in self.ranked(Entries::of(list)) {
            if first > to {
                break;
            }
            for copy in 0..u64::from(entry.weight) {
                let rank = match self.function {
                    RankFunction::RowNumber => first + copy,
                    RankFunction::Rank | RankFunction::DenseRank => first,
                };
                if rank > to {
                    break;
                }
                if rank >= self.from {
                    selected.push(Ranked { rank, row: entry.row });
                }
            }
        }
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the rows that are emitted of entries, given as sort key, row and weight.
    #[track_caller]
    fn check(function: RankFunction, from: u64, to: u64, entries: &[(&str, &str, u32)], expected: &str) {
        let entries: Vec<Entry<'_>> = entries
            .iter()
            .map(|(sort_key, row, weight)| Entry {
                sort_key: sort_key.as_bytes(),
                row: row.as_bytes(),
                weight: *weight,
            })
            .collect();
        let list = list_of(&entries);
        assert_eq!(Entries::of(&list).collect::<Vec<_>>(), entries);
        let selected = Ranks { function, from, to }.selected(&list);
        let rows = selected
            .iter()
            .map(|ranked| format!("{}{}", String::from_utf8_lossy(ranked.row), ranked.rank));
        assert_eq!(rows.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn ties_and_repeated_rows_are_ranked_as_the_function_says() {
        let entries = [("a", "u", 1), ("b", "v", 2), ("b", "w", 1), ("c", "x", 1)];
        check(RankFunction::RowNumber, 1, 9, &entries, "u1 v2 v3 w4 x5");
        check(RankFunction::RowNumber, 3, 4, &entries, "v3 w4");
        check(RankFunction::RowNumber, 1, 2, &entries, "u1 v2");
        check(RankFunction::Rank, 1, 9, &entries, "u1 v2 v2 w2 x5");
        check(RankFunction::Rank, 1, 3, &entries, "u1 v2 v2 w2");
        check(RankFunction::Rank, 3, 9, &entries, "x5");
        check(RankFunction::DenseRank, 2, 3, &entries, "v2 v2 w2 x3");
        check(RankFunction::DenseRank, 1, 0, &entries, "");
    }
}
