#!/usr/bin/env python3
"""Writes the tables of the TPC-H cases as CSV files into ../data/tpch.

The tables have the schema of the TPC-H benchmark and far fewer rows and different values than its generator makes, so that
each of the 22 queries has a result. The output depends on the seed only.
"""
import csv
import random
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "tpch"
REGIONS = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]
NATIONS = [("ALGERIA", 0), ("BRAZIL", 1), ("CANADA", 1), ("FRANCE", 3), ("GERMANY", 3), ("INDIA", 2), ("JAPAN", 2),
           ("KENYA", 0), ("SAUDI ARABIA", 4), ("CHINA", 2)]
SEGMENTS = ["AUTOMOBILE", "BUILDING", "MACHINERY"]
PRIORITIES = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]
MODES = ["AIR", "AIR REG", "MAIL", "SHIP", "TRUCK"]
INSTRUCTIONS = ["DELIVER IN PERSON", "COLLECT COD", "NONE"]
TYPES = ["ECONOMY ANODIZED STEEL", "PROMO BURNISHED COPPER", "PROMO PLATED BRASS", "MEDIUM POLISHED TIN", "LARGE BRUSHED BRASS"]
CONTAINERS = ["SM CASE", "SM PACK", "MED BOX", "MED BAG", "LG CASE", "LG PACK"]
WORDS = ["green", "forest", "almond", "ivory", "special", "requests", "packages", "customer", "complaints", "quick"]
SUPPLIERS, CUSTOMERS, PARTS, ORDERS = 20, 50, 40, 330

random.seed(19)


def money(low, high):
    return Decimal(random.randint(low * 100, high * 100)) / 100


def words(count):
    return " ".join(random.choice(WORDS) for _ in range(count))


def day(low, high):
    return low + timedelta(days=random.randint(0, (high - low).days))


def write(name, columns, rows):
    with open(FOLDER / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split())
        writer.writerows(rows)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    write("region", "r_regionkey r_name", enumerate(REGIONS))
    write("nation", "n_nationkey n_name n_regionkey", ((key, name, region) for key, (name, region) in enumerate(NATIONS)))
    write("supplier", "s_suppkey s_name s_address s_nationkey s_phone s_acctbal s_comment", (
        (key, f"Supplier#{key:03}", words(2), key % len(NATIONS), f"{10 + key % len(NATIONS)}-{random.randint(100, 999)}",
         money(-900, 9000), "Customer Complaints" if key == 7 else words(3)) for key in range(1, SUPPLIERS + 1)))
    write("customer", "c_custkey c_name c_address c_nationkey c_phone c_acctbal c_mktsegment c_comment", (
        (key, f"Customer#{key:03}", words(2), key % len(NATIONS), f"{10 + random.randint(0, 24)}-{random.randint(100, 999)}",
         money(-900, 9000), random.choice(SEGMENTS), words(3)) for key in range(1, CUSTOMERS + 1)))
    sizes = [random.randint(1, 15) for _ in range(PARTS + 1)]
    write("part", "p_partkey p_name p_mfgr p_brand p_type p_size p_container p_retailprice", (
        (key, words(3), f"Manufacturer#{key % 3 + 1}", f"Brand#{key % 3 + 1}{key % 2 + 2}", TYPES[key % 5], sizes[key],
         CONTAINERS[key % 6], money(900, 1900)) for key in range(1, PARTS + 1)))
    offers = {part: random.sample(range(1, SUPPLIERS + 1), 4) for part in range(1, PARTS + 1)}
    write("partsupp", "ps_partkey ps_suppkey ps_availqty ps_supplycost", (
        (part, supplier, random.randint(1, 300), money(1, 1000)) for part, some in offers.items() for supplier in some))
    orders, lines = [], []
    for key in range(1, ORDERS + 1):
        ordered = day(date(1992, 1, 1), date(1998, 8, 2))
        customer = random.randint(1, CUSTOMERS * 3 // 4)
        count = random.choice([1, 2, 3, 4, 7])
        total = Decimal(0)
        for number in range(1, count + 1):
            part = random.randint(1, PARTS)
            quantity = random.randint(1, 50)
            price = quantity * money(900, 1900)
            shipped = ordered + timedelta(days=random.randint(1, 121))
            committed = ordered + timedelta(days=random.randint(30, 90))
            received = shipped + timedelta(days=random.randint(1, 30))
            is_returned = received <= date(1995, 6, 17)
            flag = random.choice("AR") if is_returned else "N"
            lines.append((key, part, random.choice(offers[part]), number, quantity, price,
                          Decimal(random.randint(0, 10)) / 100, Decimal(random.randint(0, 8)) / 100, flag,
                          "F" if shipped <= date(1995, 6, 17) else "O", shipped, committed, received,
                          random.choice(INSTRUCTIONS), random.choice(MODES)))
            total += price
        status = {line[9] for line in lines if line[0] == key}
        orders.append((key, customer, status.pop() if len(status) == 1 else "P", total, ordered,
                       random.choice(PRIORITIES), words(4)))
    write("orders", "o_orderkey o_custkey o_orderstatus o_totalprice o_orderdate o_orderpriority o_comment", orders)
    # An order's lines do not arrive together with it.
    random.shuffle(lines)
    write("lineitem", "l_orderkey l_partkey l_suppkey l_linenumber l_quantity l_extendedprice l_discount l_tax l_returnflag "
          "l_linestatus l_shipdate l_commitdate l_receiptdate l_shipinstruct l_shipmode", lines)


main()
