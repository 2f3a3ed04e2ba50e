-- The tables of the TPC-H benchmark, as streams of rows. ${DATA} and ${RATE} are set by the harness; small tables are read
-- slowly, so that a run has checkpoints.
CREATE TABLE region (
  r_regionkey BIGINT, r_name STRING
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/region.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE}'
);
CREATE TABLE nation (
  n_nationkey BIGINT, n_name STRING, n_regionkey BIGINT
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/nation.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE}'
);
CREATE TABLE supplier (
  s_suppkey BIGINT, s_name STRING, s_address STRING, s_nationkey BIGINT, s_phone STRING, s_acctbal DECIMAL(15, 2),
  s_comment STRING
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/supplier.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE}'
);
CREATE TABLE customer (
  c_custkey BIGINT, c_name STRING, c_address STRING, c_nationkey BIGINT, c_phone STRING, c_acctbal DECIMAL(15, 2),
  c_mktsegment STRING, c_comment STRING
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/customer.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE}'
);
CREATE TABLE part (
  p_partkey BIGINT, p_name STRING, p_mfgr STRING, p_brand STRING, p_type STRING, p_size INT, p_container STRING,
  p_retailprice DECIMAL(15, 2)
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/part.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE}'
);
CREATE TABLE partsupp (
  ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INT, ps_supplycost DECIMAL(15, 2)
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/partsupp.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE/8}'
);
CREATE TABLE orders (
  o_orderkey BIGINT, o_custkey BIGINT, o_orderstatus STRING, o_totalprice DECIMAL(15, 2), o_orderdate DATE,
  o_orderpriority STRING, o_comment STRING
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/orders.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE/8}'
);
CREATE TABLE lineitem (
  l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INT, l_quantity DECIMAL(15, 2),
  l_extendedprice DECIMAL(15, 2), l_discount DECIMAL(15, 2), l_tax DECIMAL(15, 2), l_returnflag STRING,
  l_linestatus STRING, l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE, l_shipinstruct STRING, l_shipmode STRING
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/tpch/lineitem.csv', 'format' = 'csv', 'csv.header' = 'true',
  'scan.rate-limit' = '${RATE/2}'
);
