"""Writes the records of a day at four toll booths, some of them wrong: entries, exits and registrations.

Usage: vehicles_data.py FOLDER

The field `registered` of a registration is its event time where it comes from a topic, as the header `event-time`. In a
file, the event time is the file's modification time. `is_late` marks entries that reach a stream after all others. The
pipeline reads neither field. Lines that are not JSON are in `unreadable.jsonl`: a batch fails on them.
"""

import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

DAY = datetime(2026, 1, 2)
VISITS = 400
PLATES = 150


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def entry(chance: random.Random, booth: str, plate: str, time: datetime) -> dict:
    make, model = chance.choice([("Honda", "Civic"), ("Ford", "F-150"), ("Volvo", "FH16"), ("Tesla", "Model 3")])
    return {
        "id": booth, "entry_time": text(time), "license_plate": plate, "state": chance.choice(["NJ", "NY", "PA"]),
        "make": make, "model": model, "vehicle_type": chance.choice([1, 2]), "weight_type": chance.choice([0, 1, 2]),
        "toll": chance.choice([4.5, 5, 6.25, 12]), "tag": str(chance.randrange(10**6)),
    }


def main() -> None:
    folder = Path(sys.argv[1]) / text(DAY)[:10]
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(2026)
    entries, exits, registrations = [], [], []
    for _ in range(VISITS):
        booth, plate = str(chance.randint(1, 4)), f"P{chance.randrange(PLATES):03}"
        start = DAY + timedelta(hours=6, seconds=chance.randrange(4 * 3600))
        entries.append((start, entry(chance, booth, plate, start)))
        if chance.random() < 0.1:
            again = start + timedelta(minutes=chance.randint(1, 5))
            entries.append((again, entry(chance, booth, plate, again)))
        for _ in range(chance.choice([0, 1, 1, 1, 1, 2])):
            end = start + timedelta(seconds=chance.choice([chance.randint(20, 500), chance.randint(601, 5000)]))
            exits.append((end, {"id": booth, "exit_time": text(end), "license_plate": plate}))
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            time = start + timedelta(minutes=chance.randint(-3, 3))
            registrations.append((time, {"id": str(len(registrations)), "license_plate": plate,
                                         "expired": chance.choice([0, 0, 1, 2]), "registered": text(time)}))
    # Exits without an entry.
    for minute in range(0, 240, 7):
        time = DAY + timedelta(hours=6, minutes=minute)
        exits.append((time, {"id": "4", "exit_time": text(time), "license_plate": f"Q{minute:03}"}))
    # Wrong records. Their times, if they have any, are among those of the others.
    noon = DAY + timedelta(hours=8)
    good = entry(chance, "1", "P001", noon)
    for change in [{"id": ""}, {"license_plate": ""}, {"license_plate": None}, {"entry_time": "8 o'clock"},
                   {"entry_time": None}, {"toll": "free"}, {"toll": -1}]:
        entries.append((noon, good | change))
    exits.append((noon, {"id": "1", "exit_time": "2026-02-30 00:00:00", "license_plate": "P001"}))
    exits.append((noon, {"id": "", "exit_time": text(noon), "license_plate": "P001"}))
    for expired in [-1, 1.5, "yes", None]:
        registrations.append((noon, {"id": "x", "license_plate": "P001", "expired": expired, "registered": text(noon)}))
    # Rows are up to a minute out of order.
    for name, rows in [("entries", entries), ("exits", exits), ("registrations", registrations)]:
        rows = [(time + timedelta(seconds=chance.randrange(60)), row) for time, row in rows]
        rows.sort(key=lambda row: row[0])
        lines = [json.dumps(row) + "\n" for _, row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    late = []
    for minute in (1, 2, 33):
        time = DAY + timedelta(hours=6, minutes=minute)
        late.append(json.dumps(entry(chance, "2", f"L{minute:03}", time)) + "\n")
    (folder / "late.jsonl").write_text("".join(late))
    (folder / "unreadable.jsonl").write_text('{"id": "1", \nnot JSON\n["1"]\n')
    modified = (DAY + timedelta(hours=7, minutes=2)).replace(tzinfo=timezone.utc).timestamp()
    os.utime(folder / "registrations.jsonl", (modified, modified))


main()
