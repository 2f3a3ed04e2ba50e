-- The same tables for DuckDB.
CREATE TABLE region (
  r_regionkey BIGINT, r_name VARCHAR
);
COPY region FROM '${DATA}/tpch/region.csv' (HEADER);
CREATE TABLE nation (
  n_nationkey BIGINT, n_name VARCHAR, n_regionkey BIGINT
);
COPY nation FROM '${DATA}/tpch/nation.csv' (HEADER);
CREATE TABLE supplier (
  s_suppkey BIGINT, s_name VARCHAR, s_address VARCHAR, s_nationkey BIGINT, s_phone VARCHAR, s_acctbal DECIMAL(15, 2),
  s_comment VARCHAR
);
COPY supplier FROM '${DATA}/tpch/supplier.csv' (HEADER);
CREATE TABLE customer (
  c_custkey BIGINT, c_name VARCHAR, c_address VARCHAR, c_nationkey BIGINT, c_phone VARCHAR, c_acctbal DECIMAL(15, 2),
  c_mktsegment VARCHAR, c_comment VARCHAR
);
COPY customer FROM '${DATA}/tpch/customer.csv' (HEADER);
CREATE TABLE part (
  p_partkey BIGINT, p_name VARCHAR, p_mfgr VARCHAR, p_brand VARCHAR, p_type VARCHAR, p_size INT, p_container VARCHAR,
  p_retailprice DECIMAL(15, 2)
);
COPY part FROM '${DATA}/tpch/part.csv' (HEADER);
CREATE TABLE partsupp (
  ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INT, ps_supplycost DECIMAL(15, 2)
);
COPY partsupp FROM '${DATA}/tpch/partsupp.csv' (HEADER);
CREATE TABLE orders (
  o_orderkey BIGINT, o_custkey BIGINT, o_orderstatus VARCHAR, o_totalprice DECIMAL(15, 2), o_orderdate DATE,
  o_orderpriority VARCHAR, o_comment VARCHAR
);
COPY orders FROM '${DATA}/tpch/orders.csv' (HEADER);
CREATE TABLE lineitem (
  l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INT, l_quantity DECIMAL(15, 2),
  l_extendedprice DECIMAL(15, 2), l_discount DECIMAL(15, 2), l_tax DECIMAL(15, 2), l_returnflag VARCHAR,
  l_linestatus VARCHAR, l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE, l_shipinstruct VARCHAR, l_shipmode VARCHAR
);
COPY lineitem FROM '${DATA}/tpch/lineitem.csv' (HEADER);
