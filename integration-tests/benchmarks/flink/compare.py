#!/usr/bin/env python3
"""Runs Nexmark on Millstream and on Apache Flink over the same events, alternating, and prints the ratios.

Both engines read files of JSON lines that our generator has written, one for each subtask, and write to a black hole.
The medians of all pairs of runs are compared: events per second from the first record to the end of the job, CPU
seconds per million events, and peak memory. With --check, both write their results to files instead, and the rows are
compared.
"""
import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

import flink
import millstream
import nexmark
import results

MEASURES = ("events_per_second", "cpu_seconds_per_million_events", "peak_bytes")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="such as q0 q5; default: all")
    parser.add_argument("--engine", type=Path, required=True, help="the engine's binary")
    cache = os.environ.get("MILLSTREAM_CACHE")
    parser.add_argument("--cache", type=Path, default=cache, help="folder of Flink and the events")
    parser.add_argument("--events", type=int, help="events of a run (5,000,000; with --check 20,000)")
    parser.add_argument("--rate", type=int, help="events per second of event time (100,000; with --check 1,000)")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each engine (3), after a first one, not counted")
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--memory", default="4gb",
                        help="of the TaskManager's process, and the budget of Millstream (4gb)")
    parser.add_argument("--checkpoint-interval", default="10s")
    parser.add_argument("--check", action="store_true", help="compare results instead of measuring")
    parser.add_argument("--without-flink", action="store_true", help="run Millstream alone")
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args()
    if unknown := set(options.queries) - set(nexmark.QUERIES):
        parser.error(f"no such query: {', '.join(sorted(unknown))}; there are {', '.join(nexmark.QUERIES)}")
    if options.cache is None:
        parser.error("--cache is missing, and MILLSTREAM_CACHE is not set")
    options.queries = options.queries or nexmark.QUERIES
    options.events = options.events or (20_000 if options.check else 5_000_000)
    options.rate = options.rate or (1_000 if options.check else 100_000)
    options.cache = options.cache.resolve()
    return options


class Comparison:
    def __init__(self, options, folder):
        self.options, self.folder, self.runs = options, folder, 0
        self.engines = ["millstream"] if options.without_flink else ["millstream", "flink"]
        self.home = None if options.without_flink else flink.install(options.cache)
        self.events = nexmark.Events(options.cache, options.events, options.rate, options.parallelism)
        self.events.write(options.engine)
        self.settings = {"PARALLELISM": options.parallelism, "MEMORY": options.memory,
                         "CHECKPOINT_INTERVAL": options.checkpoint_interval,
                         "FINAL_CHECKPOINT": str(options.check).lower()}

    def cluster(self):
        if self.home is None:
            return contextlib.nullcontext()
        return flink.Cluster(self.home, Path(tempfile.mkdtemp(dir=self.folder)), self.settings)

    def script(self, query, folder, **options):
        output = folder / "out"
        sink = results.CHANGES.format(output) if self.options.check else nexmark.BLACKHOLE
        path = folder / f"{query}.sql"
        path.write_text(nexmark.script(query, self.events, output, sink=sink, **options))
        return path, output

    def run(self, engine, query, cluster):
        """Runs a query on one engine. Returns what was measured, or with --check the rows."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            if engine == "flink":
                path, output = self.script(query, folder)
                measured = cluster.run(path)
            else:
                path, output = self.script(query, folder, source_options=millstream.SOURCE_OPTIONS)
                measured = millstream.run(self.options.engine, path, folder, self.settings)
            if self.options.check:
                return results.table(output)
            measured["events_per_second"] = self.events.number / measured["seconds"]
            measured["cpu_seconds_per_million_events"] = measured["cpu_seconds"] / (self.events.number / 1e6)
            return measured
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def measure(self, query):
        """Returns the runs of both engines, or the reasons why one does not run the query."""
        first, runs, refused = {}, {engine: [] for engine in self.engines}, {}

        def attempt(engine):
            try:
                return self.run(engine, query, cluster)
            except (flink.Failed, millstream.Failed) as error:
                refused[engine] = str(error)

        with self.cluster() as cluster:
            # The first run tells whether the engine runs the query, and lets Flink's JVM compile its code.
            for engine in self.engines:
                first[engine] = attempt(engine)
            for pair in range(self.options.pairs):
                for engine in self.engines[::1 if pair % 2 == 0 else -1]:
                    if engine not in refused and (measured := attempt(engine)):
                        runs[engine].append(measured)
        return {"first": first, "runs": runs, "refused": refused}

    def check(self, query, cluster):
        """Compares the rows of both engines, and of DuckDB. Returns the differences."""
        tables, refused = {}, {}
        if (rows := results.computed(query, self.events)) is not None:
            tables["DuckDB"] = rows
        for engine in reversed(self.engines):
            try:
                tables[engine] = self.run(engine, query, cluster)
            except (flink.Failed, millstream.Failed) as error:
                refused[engine] = str(error)
        for engine, reason in refused.items():
            print(f"{query:<11} {engine} does not run it: {reason[:200]}")
        if len(tables) < 2:
            return ""
        different = results.difference(tables)
        sizes = next(iter(tables.values())).total()
        print(f"{query:<11} " + (different or f"{', '.join(tables)}: the same {sizes} rows"), flush=True)
        return different


def medians(runs):
    return {measure: statistics.median(run[measure] for run in runs) for measure in MEASURES}


def print_row(query, result):
    sides = {engine: medians(runs) for engine, runs in result["runs"].items() if runs}
    cells = [f"{query:<11}"]
    for engine in ("millstream", "flink"):
        side = sides.get(engine)
        cells.append(f"{side[MEASURES[0]]:>12,.0f}{side[MEASURES[1]]:>9.2f}{side[MEASURES[2]] / 1e6:>8,.0f}" if side
                     else f"{'-':>12}{'-':>9}{'-':>8}")
    if len(sides) == 2:
        ours, theirs = sides["millstream"], sides["flink"]
        result["ratios"] = {"events_per_second": ours[MEASURES[0]] / theirs[MEASURES[0]],
                            **{name: theirs[name] / ours[name] for name in MEASURES[1:]}}
        cells.append("".join(f"{ratio:>9.1f}" for ratio in result["ratios"].values()))
    print("".join(cells))
    for engine, reason in result["refused"].items():
        print(f"           {engine} does not run it: {reason[:200]}")
    sys.stdout.flush()


def main():
    options = arguments()
    # Ending the program this way, too, ends the processes of Flink.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    measured = {}
    with tempfile.TemporaryDirectory(prefix="bench-flink-") as name:
        comparison = Comparison(options, Path(name))
        print(f"{options.events:,} events, {options.rate:,} per second of event time; parallelism "
              f"{options.parallelism}, memory {options.memory}, a checkpoint every {options.checkpoint_interval}; "
              f"Flink {flink.VERSION}")
        if options.check:
            with comparison.cluster() as cluster:
                different = [query for query in options.queries
                             if query not in results.UNDETERMINED and comparison.check(query, cluster)]
            sys.exit(f"different results: {', '.join(different)}" if different else 0)
        print(f"{'':<11}{'Millstream':^29}{'Flink':^29}{'how many times better':^27}")
        side = f"{'events/s':>12}{'CPU s/M':>9}{'MB':>8}"
        print(f"{'query':<11}{side}{side}{'events/s':>9}{'CPU':>9}{'memory':>9}", flush=True)
        for query in options.queries:
            measured[query] = comparison.measure(query)
            print_row(query, measured[query])
            if options.json:
                settings = {name: str(value) for name, value in vars(options).items()}
                options.json.write_text(json.dumps({"settings": settings, "queries": measured}, indent=1))


try:
    main()
except flink.Failed as error:
    sys.exit(f"error: {error}")
