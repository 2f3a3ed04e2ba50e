//! Reports about columns that are absent from all records of a source.

use std::fs;

use crate::test_cluster::{TestCluster, metric, until};

#[test]
fn a_misspelt_json_name_is_told_by_why_and_the_log_and_counted() {
    let cluster = TestCluster::new();
    let _coordinator = cluster.coordinator();
    let (metrics_a, _worker_a) = cluster.worker_with_metrics("a");
    let (metrics_b, _worker_b) = cluster.worker_with_metrics("b");
    cluster.until_workers(2);
    for file in 0..2 {
        let lines: String = (0..1500)
            .map(|row| format!("{{\"userId\": {row}, \"url\": \"/{file}\"}}\n"))
            .collect();
        let path = cluster.path(&format!("clicks/{file}.json"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        fs::write(path, lines).expect("a writable folder");
    }
    let script = format!(
        "CREATE TABLE clicks (userid BIGINT, url STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json',
  'source.monitor-interval' = '1 s');
CREATE TABLE away (userid BIGINT, url STRING) WITH ('connector' = 'blackhole');
INSERT INTO away SELECT userid, url FROM clicks;",
        cluster.path("clicks").display()
    );
    fs::write(cluster.path("clicks.sql"), script).expect("a writable folder");
    cluster.cli(&["jobs", "submit", "clicks.sql", "--parallelism", "2", "--wait"], 0);

    let told = "source `clicks`: column `userid` was absent from all 3,000 records; they have the field `userId` (names are \
                case-sensitive)";
    until("why tells of the column", || {
        cluster.cli(&["jobs", "why", "clicks"], 0).0.contains(told)
    });
    until("the log warns", || {
        cluster
            .cli(&["jobs", "logs", "clicks"], 0)
            .0
            .contains("column `userid` was absent from all")
    });
    let name = "millstream_absent_column_records_total";
    until("all records are counted", || {
        metric(metrics_a, name) + metric(metrics_b, name) == 3000.0
    });
    cluster.cli(&["jobs", "cancel", "clicks", "--wait"], 0);
}
