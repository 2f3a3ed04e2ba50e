//! The shapes of the simulated jobs, with their expected output: every shape tests other parts of the engine.
//!
//! The expected output is computed from the rows of the sources alone, by loops that do not use the engine.

use std::collections::BTreeMap;

use crate::published::{Row, Written};
use crate::world::world;

/// Option of a sink that tells pipelines apart.
pub const VARIANT_OPTION: &str = "variant";
/// Prefix of the table whose last column is zero in all rows.
pub const BALANCES: &str = "balances";
/// Prefix of that option's value in pipelines whose sinks cannot be opened.
pub const FAILING_PREFIX: &str = "failing-";
/// Splits of each source.
pub const SPLITS: i64 = 3;
/// Event time between two rows of one split.
const STEP_US: i64 = 100_000;
const WINDOW_US: i64 = 2_000_000;
const KEYS: i64 = 5;
/// Rows of `others` are later than those of `numbers` by this much: some belong to another window.
const OTHERS_LATER_US: i64 = 313_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A source, an exchange by key, a window with two phases, a sink.
    Counted,
    /// Two sources, both exchanged by key, that meet in a window join.
    Joined,
    /// Two independent pipelines: one with a window and an exchange, one that only filters.
    Apart,
    /// A source, a filter and a sink; no row ever changes its subtask.
    Filtered,
    /// Two sources, united before a window.
    United,
    /// A source whose rows are added up by two keys and then together, with consistency points: the total of what one
    /// side adds and the other removes is zero in each row.
    Balanced,
}

impl Shape {
    pub const ALL: [Self; 6] = [
        Self::Counted,
        Self::Joined,
        Self::Apart,
        Self::Filtered,
        Self::United,
        Self::Balanced,
    ];

    /// Rows of each split: jobs with two sources read about as many as those with one.
    fn rows(self) -> i64 {
        match self {
            Self::Counted | Self::Filtered | Self::Balanced => 130,
            Self::Joined | Self::Apart | Self::United => 80,
        }
    }
}

/// A pipeline that a job may have. All pipelines of a workload write the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// Runs. Pipelines with other numbers have other fingerprints.
    Working(u64),
    /// Plans, but its sinks cannot be opened.
    Failing(u64),
}

impl Variant {
    /// Value of the sinks' option [`VARIANT_OPTION`].
    fn option(self) -> String {
        match self {
            Self::Working(number) => format!("working-{number}"),
            Self::Failing(number) => format!("{FAILING_PREFIX}{number}"),
        }
    }
}

/// The query of one job. The names of its tables contain its number, so that the output of all jobs can be checked
/// together.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub number: usize,
    pub shape: Shape,
    /// Factor of the number of rows of its shape.
    pub times: i64,
}

impl Workload {
    pub fn job(&self) -> String {
        format!("simulated-{}", self.number)
    }

    /// Of each split.
    fn rows(&self) -> i64 {
        self.shape.rows() * self.times
    }

    fn table(&self, name: &str) -> String {
        format!("{name}_{}", self.number)
    }

    /// Tables from `CREATE TABLE` on, and what is done with them.
    pub fn script(&self, variant: Variant) -> String {
        let source = |name: &str| {
            let name = self.table(name);
            format!(
                "CREATE TABLE {name} (n BIGINT, t TIMESTAMP(3), WATERMARK FOR t AS t - INTERVAL '1' SECOND)
                 WITH ('connector' = 'simulated');"
            )
        };
        let sink = |name: &str| {
            let (name, variant) = (self.table(name), variant.option());
            format!(
                "CREATE TABLE {name} (k BIGINT, moment TIMESTAMP(3), many BIGINT, total BIGINT)
                 WITH ('connector' = 'simulated', '{VARIANT_OPTION}' = '{variant}');"
            )
        };
        let count = |from: &str| {
            let (from, counts) = (self.table(from), self.table("counts"));
            format!(
                "INSERT INTO {counts}
                 SELECT MOD(n, {KEYS}), window_start, COUNT(*), SUM(n)
                 FROM TABLE(TUMBLE(TABLE {from}, DESCRIPTOR(t), INTERVAL '2' SECOND))
                 GROUP BY MOD(n, {KEYS}), window_start, window_end;"
            )
        };
        let filter = |from: &str| {
            let (from, kept) = (self.table(from), self.table("kept"));
            format!("INSERT INTO {kept} SELECT n, t, MOD(n, {KEYS}), n + 1 FROM {from} WHERE MOD(n, {KEYS}) <> 2;")
        };
        let windows = |of: &str| {
            let of = self.table(of);
            format!("SELECT * FROM TABLE(TUMBLE(TABLE {of}, DESCRIPTOR(t), INTERVAL '2' SECOND))")
        };
        let parts = match self.shape {
            Shape::Counted => vec![source("numbers"), sink("counts"), count("numbers")],
            Shape::Filtered => vec![source("numbers"), sink("kept"), filter("numbers")],
            Shape::Balanced => {
                let (numbers, accounts) = (self.table("numbers"), self.table("accounts"));
                let balances = self.table(BALANCES);
                let time = "TIMESTAMP '1970-01-01 00:00:00'";
                vec![
                    "SET 'consistency.interval' = '150ms';".to_string(),
                    source("numbers"),
                    sink("accounts"),
                    sink(BALANCES),
                    format!(
                        "INSERT INTO {accounts}
                         SELECT MOD(n, {KEYS}), {time}, COUNT(*), SUM(n) FROM {numbers} GROUP BY MOD(n, {KEYS});
                         INSERT INTO {balances}
                         SELECT SUM(k), {time}, SUM(many), SUM(total) FROM (
                           SELECT MOD(n, {KEYS}) AS k, COUNT(*) AS many, -SUM(n) AS total FROM {numbers}
                           GROUP BY MOD(n, {KEYS})
                           UNION ALL
                           SELECT MOD(n, 3), COUNT(*), SUM(n) FROM {numbers} GROUP BY MOD(n, 3)
                         );"
                    ),
                ]
            }
            Shape::Apart => vec![
                source("numbers"),
                source("others"),
                sink("counts"),
                sink("kept"),
                count("numbers"),
                filter("others"),
            ],
            Shape::United => vec![
                source("numbers"),
                source("others"),
                sink("counts"),
                format!(
                    "CREATE VIEW {} AS SELECT n, t FROM {} UNION ALL SELECT n, t FROM {};",
                    self.table("all_numbers"),
                    self.table("numbers"),
                    self.table("others")
                ),
                count("all_numbers"),
            ],
            Shape::Joined => vec![
                source("numbers"),
                source("others"),
                sink("pairs"),
                format!(
                    "INSERT INTO {} SELECT L.n, L.window_start, MOD(R.n, {KEYS}), L.n + R.n FROM ({}) L INNER JOIN ({}) R
                     ON L.n = R.n AND L.window_start = R.window_start AND L.window_end = R.window_end;",
                    self.table("pairs"),
                    windows("numbers"),
                    windows("others")
                ),
            ],
        };
        parts.join("\n")
    }

    /// Returns the output of the job, whatever the faults.
    pub fn expected(&self) -> Vec<Written> {
        let numbers = || all("numbers", self.rows());
        let others = || all("others", self.rows());
        let to = |sink: &str, rows: Vec<Row>| -> Vec<Written> {
            let sink = self.table(sink);
            rows.into_iter().map(|row| (sink.clone(), row)).collect()
        };
        match self.shape {
            Shape::Counted => to("counts", counted(numbers())),
            Shape::Filtered => to("kept", filtered(numbers())),
            Shape::Apart => [to("counts", counted(numbers())), to("kept", filtered(others()))].concat(),
            Shape::United => to("counts", counted(numbers().chain(others()))),
            Shape::Balanced => {
                let keys = (0..KEYS).sum::<i64>() + (0..3).sum::<i64>();
                let many = 2 * numbers().count() as i64;
                let mut accounts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
                for (number, _) in numbers() {
                    let account = accounts.entry(number % KEYS).or_default();
                    account.0 += 1;
                    account.1 += number;
                }
                let accounts = accounts.into_iter();
                let accounts = accounts.map(|(key, (many, total))| (key, 0, many, total));
                [
                    to("accounts", accounts.collect()),
                    to(BALANCES, vec![(keys, 0, many, 0)]),
                ]
                .concat()
            }
            Shape::Joined => to("pairs", joined(numbers().collect(), others().collect())),
        }
    }
}

/// Of each split of the job's table.
pub fn rows_of(table: &str) -> i64 {
    let of = |workload: &Workload| {
        table
            .rsplit_once('_')
            .is_some_and(|(name, _)| table == workload.table(name))
    };
    let world = world();
    let workload = world.workloads.iter().find(|workload| of(workload));
    workload.map_or(0, Workload::rows)
}

fn all(source: &str, rows: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..SPLITS).flat_map(move |split| (0..rows).map(move |index| row(source, split, index)))
}

/// Number and event time of one row.
pub fn row(source: &str, split: i64, index: i64) -> (i64, i64) {
    let later_us = if source.starts_with("others") {
        OTHERS_LATER_US
    } else {
        0
    };
    (split * 1_000_000 + index, index * STEP_US + split * 7_000 + later_us)
}

fn window_of(time_us: i64) -> i64 {
    time_us / WINDOW_US * WINDOW_US
}

fn counted(rows: impl Iterator<Item = (i64, i64)>) -> Vec<Row> {
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for (number, time_us) in rows {
        let window = windows.entry((number % KEYS, window_of(time_us))).or_default();
        window.0 += 1;
        window.1 += number;
    }
    let windows = windows.into_iter();
    windows
        .map(|((key, start), (many, total))| (key, start, many, total))
        .collect()
}

fn filtered(rows: impl Iterator<Item = (i64, i64)>) -> Vec<Row> {
    rows.filter(|(number, _)| number % KEYS != 2)
        .map(|(number, time_us)| (number, time_us, number % KEYS, number + 1))
        .collect()
}

fn joined(left: Vec<(i64, i64)>, right: Vec<(i64, i64)>) -> Vec<Row> {
    let mut pairs = Vec::new();
    for (number, time_us) in left {
        for (other, other_us) in &right {
            if number == *other && window_of(time_us) == window_of(*other_us) {
                pairs.push((number, window_of(time_us), other % KEYS, number + other));
            }
        }
    }
    pairs
}
