//! Broken scripts: mutations of valid ones, by seed. Their messages must be for users: without names of the types and
//! syntax trees of libraries, and with a position.

use std::fmt::Write;
use std::path::Path;

use super::*;
use crate::error::Location;

/// Mutated scripts per run of the test.
const SCRIPTS: u64 = 500;

/// Parts of messages that are for the developers of libraries.
const FORBIDDEN: &[&str] = &[
    "Utf8",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Float32",
    "Float64",
    "Float16",
    "Date32",
    "Date64",
    "Time32",
    "Time64",
    "Decimal128",
    "Decimal256",
    "Timestamp(",
    "Interval(",
    "MonthDayNano",
    "DayTime(",
    "YearMonth(",
    "Microsecond",
    "Nanosecond",
    "List(",
    "Struct(",
    "Map(Field",
    "Field {",
    "Ident {",
    "Identifier(",
    "Span",
    "Expr::",
    "Literal(",
    "Some(",
    "None)",
    "Null)",
    "Nested(",
    "BinaryOp",
    "Function(",
    "FunctionArg",
    "Column {",
    "Boolean",
    "ScalarValue",
    "Internal error",
    "bug in",
    "Optimizer rule",
    "caused by",
    "DataFusion",
    "datafusion",
    "Arrow error",
    "backtrace",
    "Signature",
    "TypeSignature",
    "Candidate functions",
    "Exact(",
    "Uniform(",
    "Any(",
    "Coercible",
    "Variadic",
    "::",
    "\n",
    "  ",
    "\u{0}",
    "NaiveDate",
    "user-defined coercion",
    "sql parser error",
    "UDF",
    "LogicalPlan",
    "nullable",
    "Schema",
    "schema",
    "physical",
    "Error during planning",
    "ParserError",
];

/// Replacements of a token, of other types than the original's.
const OPERANDS: &[&str] = &[
    "1",
    "1.5",
    "1e3",
    "'x'",
    "''",
    "NULL",
    "TRUE",
    "DATE '2024-01-31'",
    "TIMESTAMP '2024-01-31 00:00:00'",
    "TIME '10:00:00'",
    "INTERVAL '1' SECOND",
    "INTERVAL '1' MONTH",
    "ARRAY[1, 2]",
    "MAP['a', 1]",
    "ROW(1, 'a')",
    "unknown",
    "bids.unknown",
    "(SELECT 1)",
    "*",
    "COUNT(*)",
    "SUM(1)",
    "UPPER(1, 2)",
    "ABS('x')",
    "NOT 1",
    "-'x'",
    "x.y.z",
    "f(1)",
    "CAST('x' AS INT)",
    "1 / 0",
    "bids",
    "id[1]",
    "CAST(id AS DATE)",
    "id + channel",
    "NOW() + 1",
    "channel || 1",
    "channel LIKE 1",
    "id BETWEEN 'a' AND 'b'",
    "CASE WHEN 1 THEN 2 END",
    "COALESCE()",
    "IF(1, 2, 3)",
    "AVG(channel)",
    "ROW_NUMBER() OVER ()",
    "SUM(id) OVER (ORDER BY ts)",
    "id IN (1, 'x')",
    "EXTRACT(FOO FROM ts)",
    "TIMESTAMPDIFF(FOO, ts, ts)",
    "FLOOR(ts TO FOO)",
    "DATE_FORMAT(ts)",
    "JSON_VALUE(id, '$.a')",
    "SUBSTRING(ts FROM 1)",
    "MAX(ARRAY[1])",
    "ts - ts",
    "ts * 2",
    "DATE '2024-13-31'",
    "INTERVAL 'x' DAY",
    "CAST(1 AS FOO)",
    "TUMBLE_START(ts)",
];

/// Arguments of calls.
const VALUES: &[&str] = &[
    "id",
    "channel",
    "fee",
    "ts",
    "url",
    "1",
    "-1",
    "1.5",
    "1e3",
    "'x'",
    "''",
    "NULL",
    "TRUE",
    "DATE '2024-01-31'",
    "TIMESTAMP '2024-01-31 00:00:00'",
    "TIME '10:00:00'",
    "INTERVAL '1' SECOND",
    "INTERVAL '1' MONTH",
    "ARRAY[1, 2]",
    "ARRAY['a']",
    "MAP['a', 1]",
    "ROW(1, 'a')",
    "CAST('x' AS INT)",
    "CAST(id AS BYTES)",
    "CAST(NULL AS DOUBLE)",
];

struct Random(u64);

impl Random {
    /// Returns a number below `bound`, by SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Returns the valid scripts, each with the tables it needs.
fn valid_scripts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &Path| std::fs::read_to_string(path).expect("the repository contains it");
    let tables = read(&root.join("integration-tests/sql/tables.sql"));
    let mut scripts = Vec::new();
    for folder in ["integration-tests/sql", "examples"] {
        let mut folders: Vec<_> = std::fs::read_dir(root.join(folder))
            .expect("the repository contains it")
            .map(|entry| entry.expect("it is readable").path())
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        for path in folders {
            let pipeline = path.join("pipeline.sql");
            if pipeline.exists() {
                let prefix = if folder == "examples" { "" } else { &tables };
                scripts.push(format!("{prefix}\n{}", read(&pipeline)));
            }
        }
    }
    assert!(scripts.len() > 20, "{}", scripts.len());
    scripts
}

/// Splits a text into words, strings, single other characters, and the white space between them.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let quoted = |quote: char| rest[1..].find(quote).map_or(rest.len(), |end| end + 2);
        let length = |part: &dyn Fn(char) -> bool| rest.find(|next| !part(next)).unwrap_or(rest.len());
        let end = match first {
            '\'' | '`' => quoted(first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if first.is_whitespace() => length(&char::is_whitespace),
            _ if first.is_alphanumeric() || first == '_' => length(&|next| next.is_alphanumeric() || next == '_'),
            _ => first.len_utf8(),
        };
        tokens.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    tokens
}

fn is_blank(token: &str) -> bool {
    token.starts_with("--") || token.trim().is_empty()
}

/// Returns a script with one to three changes.
fn mutated(script: &str, random: &mut Random) -> String {
    let mut tokens = tokens(script);
    for _ in 0..=random.below(3) {
        let solid: Vec<usize> = (0..tokens.len()).filter(|at| !is_blank(&tokens[*at])).collect();
        // Most mutations concern the queries, which are at the end.
        let from = if random.below(3) == 0 { 0 } else { solid.len() * 2 / 3 };
        let at = solid[from + random.below(solid.len() - from)];
        match random.below(8) {
            0 => tokens[at] = String::new(),
            1 => tokens[at] = format!("{0} {0}", tokens[at]),
            2 => {
                let other = *random.pick(&solid);
                tokens.swap(at, other);
            }
            3 => tokens[at] = random.pick(&tokens[..]).clone(),
            4 => tokens[at].push('x'),
            5 => {
                let function = *random.pick(&["UPPER", "ABS", "SUM", "DATE_FORMAT", "TO_TIMESTAMP", "CARDINALITY"]);
                tokens[at] = format!("{function}({})", tokens[at]);
            }
            _ => tokens[at] = (*random.pick(OPERANDS)).to_owned(),
        }
    }
    tokens.concat()
}

/// Returns the complaints about the messages of a script.
fn complaints(script: &str) -> Vec<String> {
    let environment = ["OUT", "DATA", "RATE"].map(|name| (name.to_owned(), "9".to_owned()));
    let options = PlanOptions {
        environment: environment.into(),
        ..PlanOptions::default()
    };
    let input = crate::Input::Sql {
        name: "test",
        text: script,
    };
    let Err(errors) = crate::plan(input, &options) else {
        return Vec::new();
    };
    let mut complaints = Vec::new();
    for error in errors.0 {
        if let Some(part) = FORBIDDEN.iter().find(|part| error.message.contains(**part)) {
            complaints.push(format!("`{}` in: {error}", part.escape_debug()));
        } else if names_internal_function(&error.message) {
            complaints.push(format!("an internal function in: {error}"));
        } else if error.location == Location::Unknown && !error.message.starts_with("the script inserts nothing") {
            complaints.push(format!("no position: {error}"));
        } else if error.message.trim().is_empty() {
            complaints.push(format!("no message: {error}"));
        }
    }
    complaints
}

/// Returns true if a message contains a name such as `$substring`, which users cannot write.
fn names_internal_function(message: &str) -> bool {
    let after = message.split('$').skip(1);
    after
        .filter_map(|rest| rest.chars().next())
        .any(|next| next.is_ascii_lowercase())
}

/// Returns a script with a call of any function with arguments of any types.
fn random_call(functions: &[&str], random: &mut Random) -> String {
    let call = |random: &mut Random, inner: &str| {
        let count = random.below(4);
        let mut arguments: Vec<&str> = (0..count).map(|_| *random.pick(VALUES)).collect();
        if !inner.is_empty() {
            arguments.push(inner);
        }
        format!("{}({})", random.pick(functions), arguments.join(", "))
    };
    let mut expression = call(random, "");
    match random.below(4) {
        0 => expression = call(random, &expression),
        1 => {
            let operator = *random.pick(&[
                "+",
                "-",
                "*",
                "/",
                "%",
                "||",
                "=",
                "<",
                "AND",
                "LIKE",
                "IS DISTINCT FROM",
            ]);
            expression = format!("{expression} {operator} {}", random.pick(VALUES));
        }
        2 => {
            let data_type = *random.pick(&[
                "INT",
                "DATE",
                "TIMESTAMP(3)",
                "STRING",
                "BYTES",
                "ARRAY<INT>",
                "DECIMAL(3, 1)",
            ]);
            expression = format!("CAST({expression} AS {data_type})");
        }
        _ => {}
    }
    let tumble = "TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' MINUTE))";
    match random.below(3) {
        0 => format!("SELECT id,\n  {expression} FROM bids"),
        1 => format!("SELECT id FROM bids WHERE\n  {expression}"),
        _ => format!("SELECT\n  MAX({expression}) FROM {tumble} GROUP BY window_start, window_end"),
    }
}

#[test]
fn messages_of_broken_calls_are_for_users() {
    let functions = crate::functions::Functions::all();
    let mut names: Vec<&str> = functions.public_names().collect();
    names.sort_unstable();
    let tables = &valid_scripts()[0];
    let tables = &tables[..tables
        .find("CREATE TABLE result")
        .expect("the result follows the tables")];
    check_scripts(|random| format!("{tables}\n{}", random_call(&names, random)));
}

#[test]
fn messages_of_broken_scripts_are_for_users() {
    let scripts = valid_scripts();
    check_scripts(|random| {
        let script: &String = random.pick(&scripts);
        mutated(script, random)
    });
}

/// Checks the messages of scripts by seed. `BROKEN_SCRIPTS_SEED` is the first seed, `BROKEN_SCRIPTS` their number.
#[track_caller]
fn check_scripts(script: impl Fn(&mut Random) -> String) {
    let number = |name: &str| std::env::var(name).map(|text| text.parse::<u64>().expect("a number"));
    let first = number("BROKEN_SCRIPTS_SEED").unwrap_or(0);
    let mut report = String::new();
    for seed in first..first + number("BROKEN_SCRIPTS").unwrap_or(SCRIPTS) {
        let script = script(&mut Random(seed));
        for complaint in complaints(&script) {
            writeln!(report, "seed {seed}: {complaint}").expect("a string");
        }
    }
    assert!(report.is_empty(), "{report}");
}
