#!/usr/bin/env python3
"""Computes the expected rows of every SQL case with DuckDB, an engine that shares no code with ours.

expected.py           writes expected.csv beside each case's duckdb.sql, and QUERY.csv beside nexmark/QUERY.duckdb.sql and
                      tpch/QUERY.sql
expected.py --check   only compares; exits 1 and names the cases that differ
"""
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

HERE = Path(__file__).parent


def text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        whole = value.strftime("%Y-%m-%d %H:%M:%S")
        return whole + (f".{value.microsecond:06d}".rstrip("0") if value.microsecond else "")
    if isinstance(value, (date, int, Decimal)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    value = str(value)
    return '"' + value.replace('"', '""') + '"' if any(c in value for c in ',"\n') else value


def rows_of(*scripts):
    connection = duckdb.connect()
    for script in scripts:
        sql = script.read_text().replace("${DATA}", str(HERE / "data"))
        connection.execute(sql.replace("${EVENTS}", str(HERE / "data/nexmark/*.json")))
    return sorted(",".join(text(v) for v in row) for row in connection.fetchall())


def cases():
    """Yields for each case its name, the file of expected rows, and the scripts that compute them."""
    for script in sorted(HERE.glob("*/duckdb.sql")):
        yield script.parent.name, script.with_name("expected.csv"), (HERE / "tables.duckdb.sql", script)
    for script in sorted((HERE / "nexmark").glob("q*.duckdb.sql")):
        query = script.name.removesuffix(".duckdb.sql")
        yield f"nexmark_{query}", script.with_name(f"{query}.csv"), (script.with_name("tables.duckdb.sql"), script)
    for script in sorted((HERE / "tpch").glob("q*.sql")):
        yield f"tpch_{script.stem}", script.with_suffix(".csv"), (script.with_name("tables.duckdb.sql"), script)


def main():
    check, wrong = "--check" in sys.argv, []
    for name, expected, scripts in cases():
        rows = "".join(row + "\n" for row in rows_of(*scripts))
        if not check:
            expected.write_text(rows)
        elif not expected.exists() or expected.read_text() != rows:
            wrong.append(name)
    if wrong:
        sys.exit("the expected rows differ from what DuckDB computes: " + ", ".join(wrong))


main()
