//! `SHOW` and `DESCRIBE`: their parser, and the text of their rows.

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::statement::{Listed, NamePattern, Show};
use super::tokens::{eat_word, name, string};

/// Parses the rest of a statement after `SHOW`. `None` for other statements, which have no effect.
pub(super) fn show(parser: &mut Parser) -> Result<Option<Show>, ParserError> {
    let list = |listed, parser: &mut Parser| {
        if eat_word(parser, "FROM") || eat_word(parser, "IN") {
            name(parser)?;
        }
        Ok(Some(Show::List(listed, pattern(parser)?)))
    };
    if eat_word(parser, "TABLES") {
        return list(Listed::Tables, parser);
    }
    if eat_word(parser, "VIEWS") {
        return list(Listed::Views, parser);
    }
    if eat_word(parser, "FUNCTIONS") {
        return list(Listed::Functions, parser);
    }
    if eat_word(parser, "DATABASES") {
        return list(Listed::Databases, parser);
    }
    if eat_word(parser, "CATALOGS") {
        return list(Listed::Catalogs, parser);
    }
    if eat_word(parser, "COLUMNS") {
        if !eat_word(parser, "FROM") && !eat_word(parser, "IN") {
            let found = parser.peek_token();
            return parser.expected("FROM and the name of a table", found);
        }
        let table = name(parser)?;
        return Ok(Some(Show::Columns(table, pattern(parser)?)));
    }
    if eat_word(parser, "CURRENT") {
        if eat_word(parser, "CATALOG") {
            return Ok(Some(Show::CurrentCatalog));
        }
        if eat_word(parser, "DATABASE") {
            return Ok(Some(Show::CurrentDatabase));
        }
        let found = parser.peek_token();
        return parser.expected("CATALOG or DATABASE after SHOW CURRENT", found);
    }
    if eat_word(parser, "CREATE") && (eat_word(parser, "TABLE") || eat_word(parser, "VIEW")) {
        return Ok(Some(Show::Create(name(parser)?)));
    }
    Ok(None)
}

/// Parses the rest of a statement after `DESCRIBE` or `DESC`. `None` for what is no table.
pub(super) fn describe(parser: &mut Parser) -> Result<Option<Show>, ParserError> {
    for what in ["CATALOG", "DATABASE", "FUNCTION", "JOB", "MODEL"] {
        let is_name = matches!(parser.peek_nth_token(1).token, Token::EOF | Token::Period);
        if !is_name && eat_word(parser, what) {
            return Ok(None);
        }
    }
    eat_word(parser, "EXTENDED");
    Ok(Some(Show::Describe(name(parser)?)))
}

/// Parses `[NOT] LIKE 'pattern'`, if it follows.
fn pattern(parser: &mut Parser) -> Result<Option<NamePattern>, ParserError> {
    let is_negated = eat_word(parser, "NOT");
    let ignores_case = eat_word(parser, "ILIKE");
    if !ignores_case && !eat_word(parser, "LIKE") {
        if is_negated {
            let found = parser.peek_token();
            return parser.expected("LIKE", found);
        }
        return Ok(None);
    }
    Ok(Some(NamePattern {
        is_negated,
        pattern: string(parser)?,
        ignores_case,
    }))
}

impl NamePattern {
    /// Returns true if a name is to be listed.
    pub(super) fn selects(&self, name: &str) -> bool {
        let lower = |text: &str| match self.ignores_case {
            true => text.to_lowercase(),
            false => text.to_owned(),
        };
        let pattern: Vec<char> = lower(&self.pattern).chars().collect();
        let name: Vec<char> = lower(name).chars().collect();
        matches_pattern(&pattern, &name) != self.is_negated
    }
}

/// Returns true if a name matches a pattern with `%` and `_`.
fn matches_pattern(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('%', rest)) => (0..=name.len()).any(|skipped| matches_pattern(rest, &name[skipped..])),
        Some((first, rest)) => match name.split_first() {
            Some((next, after)) => (*first == '_' || first == next) && matches_pattern(rest, after),
            None => false,
        },
    }
}

/// Returns rows as a table of text, as Flink's SQL client prints them.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "Empty set\n".to_owned();
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = widths
        .iter()
        .map(|width| format!("+{}", "-".repeat(width + 2)))
        .collect::<String>()
        + "+\n";
    let row = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths);
        cells
            .map(|(cell, width)| format!("| {cell:>width$} "))
            .collect::<String>()
            + "|\n"
    };
    let mut text = line.clone() + &row(&mut titles.iter().copied()) + &line;
    for cells in rows {
        text.push_str(&row(&mut cells.iter().map(String::as_str)));
    }
    text.push_str(&line);
    let noun = if rows.len() == 1 { "row" } else { "rows" };
    text.push_str(&format!("{} {noun} in set\n", rows.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_select_names() {
        #[track_caller]
        fn check(pattern: &str, is_negated: bool, expected: &[&str]) {
            let pattern = NamePattern {
                is_negated,
                pattern: pattern.to_owned(),
                ignores_case: false,
            };
            let names = ["bids", "bid", "auctions"];
            let found: Vec<&str> = names.into_iter().filter(|name| pattern.selects(name)).collect();
            assert_eq!(found, expected);
        }
        check("bid%", false, &["bids", "bid"]);
        check("bid_", false, &["bids"]);
        check("%i%s", true, &["bid"]);
        check("", false, &[]);
    }
}
