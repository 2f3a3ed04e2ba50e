//! `SHOW` and `DESCRIBE`.

use expect_test::{Expect, expect};

use crate::PlanOptions;

#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&match crate::sql_listings("test", text, &PlanOptions::default()) {
        Ok(listings) => listings.concat(),
        Err(errors) => errors.to_string(),
    });
}

const TABLE: &str = "CREATE TABLE bids (
  id BIGINT, price DECIMAL(8, 2), ts TIMESTAMP(3), `offset` BIGINT METADATA VIRTUAL, p AS PROCTIME(),
  PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'kafka', 'topic' = 'b''s', 'properties.bootstrap.servers' = 'localhost:9092', 'format' = 'json');
CREATE VIEW dear AS SELECT id, price FROM bids WHERE price > 100;
";

#[test]
fn tables_and_views_are_listed() {
    check(
        &format!("SHOW TABLES; {TABLE} SHOW TABLES; SHOW VIEWS; SHOW TABLES LIKE 'b%'; SHOW TABLES NOT LIKE '%'"),
        expect![[r#"
            Empty set
            +------------+
            | table name |
            +------------+
            |       bids |
            |       dear |
            +------------+
            2 rows in set
            +-----------+
            | view name |
            +-----------+
            |      dear |
            +-----------+
            1 row in set
            +------------+
            | table name |
            +------------+
            |       bids |
            +------------+
            1 row in set
            Empty set
        "#]],
    );
}

#[test]
fn columns_are_described() {
    check(
        &format!(
            "{TABLE} DESCRIBE bids; DESC dear; SHOW COLUMNS FROM bids LIKE 'p%'; DESCRIBE default_catalog.default_database.dear"
        ),
        expect![[r#"
            +--------+--------------------------+------+---------+------------------+--------------------------+
            |   name |                     type | null |     key |           extras |                watermark |
            +--------+--------------------------+------+---------+------------------+--------------------------+
            |     id |                   BIGINT | TRUE | PRI(id) |                  |                          |
            |  price |            DECIMAL(8, 2) | TRUE |         |                  |                          |
            |     ts |      TIMESTAMP *ROWTIME* | TRUE |         |                  | ts - INTERVAL '5' SECOND |
            | offset |                   BIGINT | TRUE |         | METADATA VIRTUAL |                          |
            |      p | TIMESTAMP_LTZ *PROCTIME* | TRUE |         |    AS PROCTIME() |                          |
            +--------+--------------------------+------+---------+------------------+--------------------------+
            5 rows in set
            +-------+---------------+------+-----+--------+-----------+
            |  name |          type | null | key | extras | watermark |
            +-------+---------------+------+-----+--------+-----------+
            |    id |        BIGINT | TRUE |     |        |           |
            | price | DECIMAL(8, 2) | TRUE |     |        |           |
            +-------+---------------+------+-----+--------+-----------+
            2 rows in set
            +-------+--------------------------+------+-----+---------------+-----------+
            |  name |                     type | null | key |        extras | watermark |
            +-------+--------------------------+------+-----+---------------+-----------+
            | price |            DECIMAL(8, 2) | TRUE |     |               |           |
            |     p | TIMESTAMP_LTZ *PROCTIME* | TRUE |     | AS PROCTIME() |           |
            +-------+--------------------------+------+-----+---------------+-----------+
            2 rows in set
            +-------+---------------+------+-----+--------+-----------+
            |  name |          type | null | key | extras | watermark |
            +-------+---------------+------+-----+--------+-----------+
            |    id |        BIGINT | TRUE |     |        |           |
            | price | DECIMAL(8, 2) | TRUE |     |        |           |
            +-------+---------------+------+-----+--------+-----------+
            2 rows in set
        "#]],
    );
    check(
        &format!("{TABLE} DESCRIBE bid"),
        expect!["6:11: unknown table `bid`; did you mean `bids`?"],
    );
}

#[test]
fn declarations_are_shown_as_statements() {
    check(
        &format!("{TABLE} SHOW CREATE TABLE bids; SHOW CREATE VIEW dear"),
        expect![[r#"
            CREATE TABLE `bids` (
              `id` BIGINT,
              `price` DECIMAL(8, 2),
              `ts` TIMESTAMP,
              `offset` BIGINT METADATA VIRTUAL,
              `p` AS PROCTIME(),
              WATERMARK FOR `ts` AS ts - INTERVAL '5' SECOND,
              PRIMARY KEY (`id`) NOT ENFORCED
            ) WITH (
              'connector' = 'kafka',
              'topic' = 'b''s',
              'properties.bootstrap.servers' = 'localhost:9092',
              'format' = 'json'
            )
            CREATE VIEW `dear` AS SELECT id, price FROM bids WHERE price > 100
        "#]],
    );
    check(
        "CREATE TABLE bids (id BIGINT, price DECIMAL(8, 2), PRIMARY KEY (id) NOT ENFORCED) PARTITIONED BY (id)
         WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv'); SHOW CREATE TABLE bids",
        expect![[r#"
            CREATE TABLE `bids` (
              `id` BIGINT,
              `price` DECIMAL(8, 2),
              PRIMARY KEY (`id`) NOT ENFORCED
            )
            PARTITIONED BY (`id`) WITH (
              'connector' = 'filesystem',
              'path' = 'out',
              'format' = 'csv'
            )
        "#]],
    );
}

#[test]
fn names_of_catalogs_and_databases_are_shown() {
    check(
        "CREATE DATABASE d; USE d; SHOW CURRENT DATABASE; SHOW DATABASES; SHOW CATALOGS; SHOW CURRENT CATALOG;
         SHOW FUNCTIONS LIKE 'json_ob%'",
        expect![[r#"
            +-----------------------+
            | current database name |
            +-----------------------+
            |                     d |
            +-----------------------+
            1 row in set
            +------------------+
            |    database name |
            +------------------+
            |                d |
            | default_database |
            +------------------+
            2 rows in set
            +-----------------+
            |    catalog name |
            +-----------------+
            | default_catalog |
            +-----------------+
            1 row in set
            +----------------------+
            | current catalog name |
            +----------------------+
            |      default_catalog |
            +----------------------+
            1 row in set
            Empty set
        "#]],
    );
}
