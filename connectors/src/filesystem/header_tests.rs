//! CSV files whose header names their columns.

use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use proptest::prelude::*;

use super::Filesystem;
use super::source_tests::{Outcome, gzip, ids, read, read_all, runtime, table, write};
use crate::{Connector, TableDefinition};

const CSV: [(&str, &str); 2] = [("format", "csv"), ("csv.header", "true")];

/// The table's rows, as `id=name`.
fn pairs(outcome: &Outcome) -> Vec<String> {
    let rows = outcome.batches.iter().flat_map(|rows| {
        let names = rows.column(1).as_string::<i32>().clone();
        (0..rows.num_rows()).map(move |row| names.value(row).to_string())
    });
    outcome
        .ids()
        .iter()
        .zip(rows)
        .map(|(id, name)| format!("{id}={name}"))
        .collect()
}

#[test]
fn columns_are_matched_by_the_names_of_each_file() {
    #[track_caller]
    fn check(name: &str, content: &[u8], options: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), name, content);
        let options: Vec<_> = CSV.iter().chain(options).copied().collect();
        let outcome = read_all(&table(&path, &ids(), &options)).unwrap();
        assert_eq!(pairs(&outcome), expected);
        assert!(outcome.rejected.is_empty(), "{:?}", outcome.rejected);
    }
    check("a.csv", b"id,name\n1,x\n", &[], &["1=x"]);
    check("a.csv", b"name,more,id\nx,0,1\ny,\"a,\nb\",2", &[], &["1=x", "2=y"]);
    check("a.csv", b"\xef\xbb\xbfname,id\r\nx,1\r\n", &[], &["1=x"]);
    check(
        "a.csv",
        b"\xef\xbb\xbf\"name\",\"say \"\"more\"\"\",\"id\"\nx,,1\n",
        &[],
        &["1=x"],
    );
    check("a.csv", b"\"more\nlines\",name,id\n,x,1\n", &[], &["1=x"]);
    check("a.csv", b"name;id\nx;1\n", &[("csv.field-delimiter", ";")], &["1=x"]);
    check(
        "a.csv",
        b"\n# by hand\nname,id\n# more\nx,1\n",
        &[("csv.allow-comments", "true")],
        &["1=x"],
    );
    check("a.csv.gz", &gzip(b"name,id\nx,1\n"), &[], &["1=x"]);
    check("a.csv", b"name,id", &[], &[]);
    check("a.csv", b"\n\n", &[], &[]);

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.csv", b"id,name\n1,x\n");
    write(folder.path(), "b.csv", b"name,id\ny,2\n");
    write(folder.path(), "c.csv.gz", &gzip(b"more,id,name\n,3,z\n"));
    let outcome = read_all(&table(&folder.path().to_string_lossy(), &ids(), &CSV)).unwrap();
    assert_eq!(pairs(&outcome), ["1=x", "2=y", "3=z"]);
}

#[test]
fn a_header_without_a_declared_column_is_refused() {
    #[track_caller]
    fn check(header: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "a.csv", format!("{header}\n1,x,2\n").as_bytes());
        let error = read_all(&table(&path, &ids(), &CSV)).err().unwrap().to_string();
        assert_eq!(error, format!("table `t`: `{path}`: {expected}"));
    }
    check(
        "id,Name",
        "the header has no column `name`; its columns are `id`, `Name`; `Name` differs only in case, and names are \
         case-sensitive: declare the column as `Name`",
    );
    check(
        "id,NAME,Name",
        "the header has no column `name`; its columns are `id`, `NAME`, `Name`; did you mean `Name`?",
    );
    check(
        "id,names",
        "the header has no column `name`; its columns are `id`, `names`; did you mean `names`?",
    );
    check("1,x", "the header has no column `id`; its columns are `1`, `x`");
    check(
        "id,name,id",
        "the header has the column `id` more than once, so it is ambiguous; rename one of them in the file",
    );
    check(
        "id,\"name",
        "the header is not readable: the quote opened at byte 3 is never closed",
    );
}

#[test]
fn a_header_may_be_no_longer_than_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.csv", "x,".repeat(50_000).as_bytes());
    let options = [CSV[0], CSV[1], ("source.max-record-size", "1kb")];
    let error = read_all(&table(&path, &ids(), &options)).err().unwrap().to_string();
    assert!(
        error.contains("no header ends within 'source.max-record-size'"),
        "{error}"
    );
}

/// A table of the columns in another order, over a file that is cut into small parts.
fn divided(path: &str, split_size: u64) -> TableDefinition {
    let split_size = split_size.to_string();
    let options = [
        CSV[0],
        CSV[1],
        ("csv.quoted-newlines", "false"),
        ("csv.allow-comments", "true"),
        ("source.split-size", &split_size),
    ];
    table(path, &ids(), &options)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Also where a part begins inside the header, or ends before it.
    #[test]
    fn every_split_uses_the_header_of_its_file(
        split_size in 3u64..80,
        stop_after in 0usize..12,
        comment in 0usize..60,
        zipped in any::<bool>(),
    ) {
        let mut content = format!("#{}\nname,more,id\n", "c".repeat(comment));
        for id in 0..40 {
            content.push_str(&format!("n{id},0,{id}\n"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = match zipped {
            true => write(folder.path(), "a.csv.gz", &gzip(content.as_bytes())),
            false => write(folder.path(), "a.csv", content.as_bytes()),
        };
        let table = divided(&path, split_size);
        let runtime = runtime();
        let source = Filesystem.source(&table).unwrap();
        let splits = runtime.block_on(source.splits()).unwrap();
        let (first, middle) = read(&*source, &runtime, splits, 3, Some(stop_after)).unwrap();
        let unfinished = middle.into_iter().filter(|split| !split.finished).collect();
        let (rest, _) = read(&*source, &runtime, unfinished, 3, None).unwrap();
        prop_assert!(first.rejected.is_empty() && rest.rejected.is_empty());
        let found: Vec<_> = pairs(&first).into_iter().chain(pairs(&rest)).collect();
        let expected: Vec<_> = (0..40).map(|id| format!("{id}=n{id}")).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn columns_that_are_not_delivered_must_be_in_the_header_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.csv", b"name,id\nx,1\n");
    let mut columns = ids();
    columns.push(("more", DataType::Utf8));
    let error = read_all(&table(&path, &columns, &CSV)).err().unwrap().to_string();
    assert!(error.contains("the header has no column `more`"), "{error}");
}
