#!/usr/bin/env python3
"""Computes the expected rows of every SQL case with DuckDB, an engine that shares no code with ours.

expected.py           writes expected.csv beside each case's duckdb.sql
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


def rows_of(case):
    connection = duckdb.connect()
    for script in (HERE / "tables.duckdb.sql", case / "duckdb.sql"):
        connection.execute(script.read_text().replace("${DATA}", str(HERE / "data")))
    return sorted(",".join(text(v) for v in row) for row in connection.fetchall())


def main():
    check, wrong = "--check" in sys.argv, []
    for script in sorted(HERE.glob("*/duckdb.sql")):
        case = script.parent
        rows = "".join(row + "\n" for row in rows_of(case))
        expected = case / "expected.csv"
        if not check:
            expected.write_text(rows)
        elif not expected.exists() or expected.read_text() != rows:
            wrong.append(case.name)
    if wrong:
        sys.exit("expected.csv differs from what DuckDB computes: " + ", ".join(wrong))


main()
