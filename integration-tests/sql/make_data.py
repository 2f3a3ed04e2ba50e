#!/usr/bin/env python3
"""Makes the input of the SQL cases: seeded, small, awkward (NULLs, ties, gaps, rows out of order by up to 5 s)."""
import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

OUT = Path(__file__).parent / "data"
START = datetime(2026, 1, 1, 8, 0, 0, tzinfo=timezone.utc)
CHANNELS = ["apple", "google", "facebook", "baidu", "channel-17", "Kanal-Ö", None]


def stamp(moment):
    text = moment.strftime("%Y-%m-%d %H:%M:%S")
    return text + (f".{moment.microsecond // 1000:03d}" if moment.microsecond else "")


def out_of_order(rows, random_source):
    """Rows in arrival order: up to 4.9 s later than their time."""
    return sorted(rows, key=lambda row: (row[0] + timedelta(milliseconds=random_source.randrange(4900)), row[1]))


def bids():
    rng = random.Random(7)
    rows, moment = [], START
    for number in range(2400):
        # Bursts, and every 400 rows a gap in which windows stay empty and sessions close.
        moment += timedelta(milliseconds=rng.choice([0, 1, 20, 90, 250]))
        if number % 400 == 399:
            moment += timedelta(seconds=45)
        rows.append((moment, number, 1000 + min(int(rng.expovariate(0.15)), 60), 10 + rng.randrange(25),
                     rng.choice([None, 0, 1]) if rng.random() < 0.05 else rng.randrange(1, 90_000),
                     rng.choice(CHANNELS), rng.choice([0.5, 0.25, 1.75, 3.0])))
    lines = ["id,auction,bidder,price,channel,url,fee,ts"]
    for moment, number, auction, bidder, price, channel, fee in out_of_order(rows, rng):
        url = f"https://shop.example/{auction % 7}/item/{number}?a=1&channel_id={number % 11}"
        lines.append(",".join("" if v is None else str(v)
                              for v in (number, auction, bidder, price, channel, url, fee, stamp(moment))))
    (OUT / "bids.csv").write_text("\n".join(lines) + "\n")


def auctions():
    rng = random.Random(11)
    rows, moment = [], START
    for number in range(600):
        moment += timedelta(milliseconds=rng.choice([10, 100, 400, 900]))
        rows.append((moment, number, 10 + rng.randrange(40), rng.choice(["art", "cars", "coins", "wine"])))
    with (OUT / "auctions.json").open("w") as out:
        for moment, number, seller, category in out_of_order(rows, rng):
            record = {"auction": {"id": 1000 + number % 60, "seller": seller, "tags": ["new", category]},
                      "category": category, "reserve": None if number % 9 == 0 else number * 3,
                      "attributes": json.dumps({"colour": ["red", "blue"][number % 2], "size": {"w": number}}),
                      "ts": stamp(moment)}
            out.write(json.dumps(record) + "\n")


def changes():
    """Changes of orders: each is placed, may be changed or cancelled within 4 s, all in the order of arrival."""
    rng = random.Random(13)
    rows, moment = [], START
    for number in range(900):
        moment += timedelta(milliseconds=rng.choice([0, 30, 120, 300]))
        arrival = moment
        order = {"id": number, "shop": rng.choice(["north", "south", "west", None]), "amount": rng.randrange(1, 500),
                 "fee": rng.choice([0.5, 0.25, None]), "ts": stamp(moment)}
        rows.append((arrival, {"before": None, "after": order, "op": "c"}))
        while rng.random() < 0.45 and (arrival - moment).total_seconds() < 3:
            arrival += timedelta(milliseconds=rng.randrange(1, 1500))
            if rng.random() < 0.4:
                rows.append((arrival, {"before": order, "after": None, "op": "d"}))
                break
            former, order = order, {**order, "shop": rng.choice(["north", "south"]), "amount": rng.randrange(1, 500)}
            rows.append((arrival, {"before": former, "after": order, "op": "u"}))
    rows.sort(key=lambda row: row[0])
    (OUT / "orders.json").write_text("".join(json.dumps(change) + "\n" for _, change in rows))


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    bids()
    auctions()
    changes()
