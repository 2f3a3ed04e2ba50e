#!/usr/bin/env python3
"""Runs queries of TPC-H over Parquet files as batches on Millstream and on DuckDB, alternating, and prints the ratios.

Both read the same files with as many threads as there are subtasks. The medians of all pairs of runs are compared: wall
time, CPU seconds and peak memory. Those of Millstream are of the whole process, from its start to its end; those of
DuckDB begin when it has been loaded.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUERIES = HERE.parent.parent / "sql" / "tpch"
MEASURES = ("seconds", "cpu_seconds", "peak_bytes")
sys.path.append(str(HERE.parent / "flink"))

import processes  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("queries", nargs="*", metavar="QUERY", default=["q1", "q3", "q5", "q6"])
    parser.add_argument("--engine", type=Path, required=True, help="the engine's binary")
    parser.add_argument("--cache", type=Path, default=os.environ.get("MILLSTREAM_CACHE"), help="folder of the tables")
    parser.add_argument("--scale", type=int, default=1, help="scale factor of TPC-H: about a gigabyte of CSV each")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--duckdb", metavar="QUERY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cache is None:
        parser.error("--cache is missing, and MILLSTREAM_CACHE is not set")
    return options


def tables(options):
    """The folder of the tables, which are generated first if they are missing."""
    folder = options.cache.resolve() / "tpch" / f"sf{options.scale}"
    if not folder.exists():
        generator = Path(sys.executable).with_name("tpchgen-cli")
        incomplete = folder.with_suffix(".incomplete")
        subprocess.run([generator, "parquet", "-s", str(options.scale), "--output-dir", incomplete], check=True)
        incomplete.rename(folder)
    return folder


def query_of(name):
    return (QUERIES / f"{name}.sql").read_text()


def millstream(options, name, folder):
    """Runs a query. Returns its measures, and its rows as text."""
    definitions = (QUERIES / "tables.sql").read_text()
    options_of = r"WITH \('connector' = 'filesystem', 'path' = '{}/\1.parquet', 'format' = 'parquet')".format(folder)
    definitions = re.sub(r"WITH \(\s*'connector' = 'filesystem', 'path' = '\$\{DATA\}/tpch/(\w+)\.csv'[^)]*\)",
                         options_of.replace("\\(", "("), definitions)
    with tempfile.TemporaryDirectory() as work:
        script = Path(work) / f"{name}.sql"
        script.write_text(f"{definitions}\n{query_of(name)};\n")
        output = Path(work) / "rows"
        command = [options.engine, "run", script, "--mode", "batch", "--parallelism", str(options.parallelism),
                   "--data-dir", Path(work) / "data"]
        with output.open("wb") as rows, open(Path(work) / "log", "wb") as log:
            code, seconds, cpu, peak = processes.run(command, stdout=rows, stderr=log)
        if code != 0:
            raise RuntimeError(f"{name} failed:\n{(Path(work) / 'log').read_text()}")
        rows = [row.split(", ") for row in re.findall(r"\+I\[(.*)\]$", output.read_text(), re.MULTILINE)]
    return dict(zip(MEASURES, (seconds, cpu, peak))), rows


def duckdb_alone(options):
    """Runs a query with DuckDB in this process, and prints its measures and rows as JSON."""
    import resource
    import time

    import duckdb
    connection = duckdb.connect()
    connection.execute(f"SET threads = {options.parallelism}")
    for table in tables(options).glob("*.parquet"):
        connection.execute(f"CREATE VIEW {table.stem} AS FROM '{table}'")
    query = query_of(options.duckdb)
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    rows = connection.execute(query).fetchall()
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measures = dict(zip(MEASURES, (seconds, cpu, after.ru_maxrss * 1024)))
    print(json.dumps({"measures": measures, "rows": [[str(value) for value in row] for row in rows]}))


def duckdb(options, name):
    command = [sys.executable, __file__, "--engine", options.engine, "--cache", options.cache,
               "--scale", str(options.scale), "--parallelism", str(options.parallelism), "--duckdb", name]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found["measures"], found["rows"]


def is_equal(ours, theirs):
    def value(text):
        try:
            return float(text)
        except ValueError:
            return text

    def close(left, right):
        if isinstance(left, float) and isinstance(right, float):
            # Averages of decimals have six digits after the point here.
            return abs(left - right) <= max(1e-6, 1e-9 * abs(right))
        return left == right

    if len(ours) != len(theirs):
        return False
    ours, theirs = (sorted([value(text) for text in row] for row in rows) for rows in (ours, theirs))
    return all(len(a) == len(b) and all(map(close, a, b)) for a, b in zip(ours, theirs))


def main():
    options = arguments()
    if options.duckdb:
        return duckdb_alone(options)
    folder = tables(options)
    report = {}
    print(f"{'query':<6} {'Millstream':>21} {'DuckDB':>21} {'speed':>7} {'memory':>7}", flush=True)
    for name in options.queries:
        runs = {"millstream": [], "duckdb": []}
        for pair in range(options.pairs + 1):
            (ours, our_rows), (theirs, their_rows) = millstream(options, name, folder), duckdb(options, name)
            if not is_equal(our_rows, their_rows):
                raise RuntimeError(f"{name}: the rows differ: {our_rows[:3]} and {their_rows[:3]}")
            # The first pair reads the files into the page cache.
            if pair > 0:
                runs["millstream"].append(ours)
                runs["duckdb"].append(theirs)
        medians = {engine: {measure: statistics.median(run[measure] for run in found) for measure in MEASURES}
                   for engine, found in runs.items()}
        ours, theirs = medians["millstream"], medians["duckdb"]
        speed, memory = theirs["seconds"] / ours["seconds"], ours["peak_bytes"] / theirs["peak_bytes"]
        texts = [f"{of['seconds']:.2f} s, {of['cpu_seconds']:.2f} s CPU" for of in (ours, theirs)]
        print(f"{name:<6} {texts[0]:>21} {texts[1]:>21} {speed:>6.0%} {memory:>6.0%}", flush=True)
        report[name] = {"medians": medians, "runs": runs, "speed": speed, "memory": memory}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
