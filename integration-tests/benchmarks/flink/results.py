"""Compares the results of Flink, Millstream and DuckDB for the same events.

Queries write their result to files as changes in the format debezium-json. Their sum is the table that the query makes;
its rows are compared as a multiset, with numbers and times in one notation.
"""
import csv
import json
import re
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

CHANGES = "'connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json'"
# Their results depend on the clock, or are no rows.
UNDETERMINED = {"q12", "source"}
DUCKDB = Path(__file__).parent.parent.parent / "sql" / "nexmark"


def cell(value):
    """Returns the one notation of a value: numbers and times without zeros at the end, NULL as the empty text."""
    if value is None:
        return ""
    if isinstance(value, (datetime, date)):
        value = str(value)
    elif isinstance(value, (int, Decimal)):
        value = format(value, "f")
    if re.fullmatch(r"-?\d+\.\d+|[\d-]{10} [\d:]{8}\.\d+", value):
        value = value.rstrip("0").rstrip(".")
    return value


def visible(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "_"))]


def table(folder):
    """Returns the rows that the files below a folder make, with their number."""
    rows = Counter()
    for path in visible(folder):
        with open(path, newline="") as lines:
            if not (first := lines.read(1)):
                continue
            lines.seek(0)
            if first != "{":
                rows.update(tuple(map(cell, row)) for row in csv.reader(lines))
                continue
            for line in lines:
                change = json.loads(line, parse_float=Decimal)
                for side, weight in (("before", -1), ("after", 1)):
                    if change[side] is not None:
                        rows[tuple(map(cell, change[side].values()))] += weight
    negative = [row for row, weight in rows.items() if weight < 0]
    if negative:
        raise ValueError(f"{len(negative)} rows are removed that were not added, such as {negative[0]}")
    return +rows


def computed(query, events):
    """Returns the rows that DuckDB computes, or None without DuckDB or a statement for the query."""
    statement = DUCKDB / f"{query}.duckdb.sql"
    try:
        import duckdb
    except ImportError:
        return None
    if not statement.exists():
        return None
    connection = duckdb.connect()
    connection.execute((DUCKDB / "tables.duckdb.sql").read_text().replace("${EVENTS}", f"{events.files}/*.json"))
    connection.execute(statement.read_text())
    return Counter(tuple(map(cell, row)) for row in connection.fetchall())


def difference(tables):
    """Describes how the tables differ, by the names of their engines; empty if they are equal."""
    (first, expected), *others = tables.items()
    parts = []
    for name, rows in others:
        missing, surplus = expected - rows, rows - expected
        if missing or surplus:
            parts.append(f"{name} lacks {missing.total()} rows of {first} and has {surplus.total()} others"
                         + "".join(f"\n    {what}: {next(iter(which))}"
                                   for what, which in ((f"only {first}", missing), (f"only {name}", surplus)) if which))
    return "\n  ".join(parts)
