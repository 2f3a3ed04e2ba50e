//! Another pipeline for a job that runs.

use crate::place::{CARS, Place, expected, until};

fn write(place: &Place, text: &str) {
    std::fs::write(place.path("cars.yaml"), text).expect("a writable folder");
}

/// The pipeline with another sink, which gets what comes after the update.
fn with_another_sink(folder: &str) -> String {
    let sink = format!(
        "  more: {{ from: per_booth, connector: filesystem, options: {{ path: \"${{OUT}}/../{folder}\" }}, format: csv }}\n"
    );
    format!("{CARS}{sink}")
}

#[test]
fn a_running_job_gets_an_edited_pipeline_and_loses_nothing() {
    let place = Place::new();
    let _standalone = place.standalone();
    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    place.until_checkpoints("cars", 2);
    let (said, _) = place.cli(&["jobs", "update", "cars.yaml"], 0);
    assert!(
        said.contains("is the pipeline that it has; nothing was changed"),
        "{said}"
    );

    write(&place, &CARS.replace("sum(n)", "sum(n * 2)"));
    let attempt = place.job("cars")["attempt"].clone();
    let (_, said) = place.cli(&["jobs", "update", "cars.yaml", "--wait"], 4);
    assert!(said.contains("does not fit the new pipeline"), "{said}");
    assert!(said.contains("the job stays as it is"), "{said}");
    assert_eq!(place.job("cars")["attempt"], attempt);

    write(&place, &with_another_sink("more"));
    let (said, _) = place.cli(&["jobs", "update", "cars.yaml", "--dry-run"], 0);
    assert!(
        said.contains("cars can be updated (compatible); nothing was changed"),
        "{said}"
    );
    let update = ["jobs", "update", "cars.yaml", "--savepoint", "before", "--wait"];
    let (said, notes) = place.cli(&update, 0);
    assert!(said.starts_with("cars: "), "{said}");
    assert!(
        notes.contains("the state before the update is savepoint `before`"),
        "{notes}"
    );
    assert_eq!(place.job("cars")["update"]["state"], "confirmed");
    let savepoints = place.json(&["savepoints", "list", "cars"]);
    assert_eq!(savepoints["checkpoints"][0]["savepoint"], "before", "{savepoints}");

    place.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(place.lines("out"), expected());
    let (more, whole) = (place.lines("more"), expected());
    assert!(!more.is_empty() && more.len() < whole.len(), "{} rows", more.len());
    assert!(more.iter().all(|row| whole.contains(row)));
    place.cli(&["jobs", "update", "cars.yaml", "--parallelism", "3"], 4);
}

#[test]
fn a_new_pipeline_that_fails_gives_the_job_back() {
    let place = Place::new();
    let _standalone = place.standalone();
    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    place.until_checkpoints("cars", 1);
    // No plan shows that a file is where the folder should be.
    std::fs::write(place.path("taken"), "").expect("a writable folder");
    write(&place, &with_another_sink("taken"));
    let (_, said) = place.cli(&["jobs", "update", "cars.yaml", "--no-savepoint", "--wait"], 1);
    assert!(
        said.contains("`cars` was not updated: the new pipeline failed"),
        "{said}"
    );
    assert!(said.contains("it has its old pipeline again"), "{said}");
    let job = place.job("cars");
    assert_eq!(job["update"]["state"], "reverted", "{job}");
    place.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(place.lines("out"), expected());
}

#[test]
fn an_update_survives_the_death_of_the_coordinator() {
    let place = Place::new();
    let mut coordinator = place.coordinator();
    let _worker = place.worker("w");
    place.until_workers(1);
    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    place.until_checkpoints("cars", 1);
    write(&place, &with_another_sink("more"));
    place.cli(&["jobs", "update", "cars.yaml"], 0);
    coordinator.kill();
    let _next = place.coordinator();
    place.until_workers(1);
    until("the update is confirmed", || {
        place.job("cars")["update"]["state"] == "confirmed"
    });
    place.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(place.lines("out"), expected());
    assert!(!place.lines("more").is_empty());
}
