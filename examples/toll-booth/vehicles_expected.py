"""Computes the results of vehicles.yaml from the definition, one row after the other: a line of JSON for each row, with
the name of the sink as `sink`, sorted.

Usage: vehicles_expected.py FOLDER_OF_THE_DAY {stream | stream-of-files | batch}

A stream has windows of ten minutes, and `late.jsonl` comes after all other entries. In a stream of files, nothing is
late, and the event time of registrations is the modification time of their file, as in a batch.
"""

import json
import os
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path

FOLDER, MODE = Path(sys.argv[1]), sys.argv[2]
IS_STREAM = MODE != "batch"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WINDOW, GAP, SUMMED = (10 * MINUTE, 10 * MINUTE, 10 * MINUTE) if IS_STREAM else (HOUR, HOUR, DAY)
RESULTS: list[str] = []


def emit(sink: str, **columns: object) -> None:
    values = {"sink": sink} | columns
    RESULTS.append(json.dumps(values, sort_keys=True, default=lambda x: float(x) if isinstance(x, Decimal) else str(x)))


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def time_of(value: object) -> datetime | None:
    try:
        return datetime.strptime(str(value), "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None


def start_of(time: datetime, size: timedelta) -> datetime:
    return time - (time - datetime(1970, 1, 1)) % size


def shown(value: object) -> str:
    return "NULL" if value is None else str(value)


def checked(step: str, row: dict, problems: list[tuple[bool, str]]) -> bool:
    """Emits the first problem of a row, and returns true if there is none."""
    for is_wrong, error in problems:
        if is_wrong:
            emit("rejected", step=step, error=error, license_plate=row["license_plate"])
            return False
    return True


def amount(value: object) -> Decimal | None:
    try:
        return Decimal(str(value)).quantize(Decimal("0.01"))
    except InvalidOperation:
        return None


def count(value: object) -> int | None:
    return int(str(value)) if str(value).lstrip("-").isdigit() else None


def entries_of(rows: list[dict]) -> list[tuple[str, str, datetime, Decimal]]:
    good = []
    for row in rows:
        time, toll = time_of(row["entry_time"]), amount(row["toll"])
        if checked("entries", row, [
            (not row["id"], "id is empty"),
            (not row["license_plate"], "license_plate is empty"),
            (time is None, f"entry_time is not a time: {shown(row['entry_time'])}"),
            (toll is None or toll < 0, f"toll is not an amount: {shown(row['toll'])}"),
        ]):
            good.append((row["id"], row["license_plate"], time, toll))
    return good


def exits_of(rows: list[dict]) -> list[tuple[str, str, datetime]]:
    good = []
    for row in rows:
        time = time_of(row["exit_time"])
        if checked("exits", row, [
            (not row["id"], "id is empty"),
            (not row["license_plate"], "license_plate is empty"),
            (time is None, f"exit_time is not a time: {shown(row['exit_time'])}"),
        ]):
            good.append((row["id"], row["license_plate"], time))
    return good


def registrations_of(rows: list[dict]) -> list[tuple[str, int, datetime]]:
    modified = datetime.fromtimestamp(os.stat(FOLDER / "registrations.jsonl").st_mtime, timezone.utc).replace(tzinfo=None)
    good = []
    for row in rows:
        expired = count(row["expired"])
        if checked("registrations", row, [
            (expired is None or expired < 0, f"expired is not an integer of at least 0: {shown(row['expired'])}"),
        ]):
            time = time_of(row["registered"]) if MODE == "stream" else modified
            good.append((row["license_plate"], expired, time))
    return good


def statistics(sink: str, entries: list, size: timedelta, **columns: object) -> None:
    groups = defaultdict(list)
    for booth, _, time, toll in entries:
        groups[booth, start_of(time, size)].append((time, toll))
    for (booth, start), rows in groups.items():
        times = [time for time, _ in rows]
        emit(sink, id=booth, window_start=start, entries=len(rows), toll=sum(toll for _, toll in rows),
             first_entry=min(times), last_entry=max(times), **columns)


def main() -> None:
    entries, exits = entries_of(read("entries")), exits_of(read("exits"))
    registrations = registrations_of(read("registrations"))
    diagnostics: Counter = Counter()
    statistics("statistics", entries, WINDOW, is_late=False)
    if MODE == "stream":
        for row in entries_of(read("late")):
            statistics("statistics", [row], WINDOW, is_late=True)
    if not IS_STREAM or MODE == "stream-of-files":
        statistics("statistics_per_day", entries, DAY)

    vehicles = defaultdict(list)
    for booth, plate, time, _ in entries:
        vehicles[booth, plate].append((time, "entry"))
    for booth, plate, time in exits:
        vehicles[booth, plate].append((time, "exit"))
    for (booth, plate), events in vehicles.items():
        sessions: list[list] = []
        for event in sorted(events):
            if sessions and event[0] - sessions[-1][-1][0] <= GAP:
                sessions[-1].append(event)
            else:
                sessions.append([event])
        for session in sessions:
            ins = [time for time, kind in session if kind == "entry"]
            outs = [time for time, kind in session if kind == "exit"]
            for entered in ins:
                for exited in outs:
                    emit("total_times", id=booth, license_plate=plate, entered=entered, exited=exited,
                         seconds=int((exited - entered).total_seconds()))
                if not outs:
                    ended = session[-1][0] + GAP - timedelta(milliseconds=1)
                    diagnostics[booth, "missing exit", start_of(ended, SUMMED)] += 1

    size = 10 * MINUTE if IS_STREAM else DAY
    for booth, plate, time, _ in entries:
        start = start_of(time, size)
        summed = start_of(start + size - timedelta(milliseconds=1), SUMMED)
        found = [expired for of, expired, at in registrations if of == plate and start_of(at, size) == start]
        if not found:
            diagnostics[booth, "no registration", summed] += 1
        for expired in found:
            if expired > 0:
                emit("expired", id=booth, license_plate=plate, entered=time, expired=expired)
            else:
                diagnostics[booth, "registration is not expired", summed] += 1
    for (booth, reason, start), vehicles_of in diagnostics.items():
        emit("diagnostics", id=booth, reason=reason, window_start=start, vehicles=vehicles_of)
    print("\n".join(sorted(RESULTS)))


main()
