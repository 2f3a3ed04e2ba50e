//! Deaths of single processes: the output is as if nothing had happened.

use crate::place::{Place, expected, free_port, until};

#[test]
fn a_job_survives_the_death_of_a_worker_and_of_the_coordinator() {
    let place = Place::new();
    let mut coordinator = place.coordinator();
    let mut workers = [place.worker("a"), place.worker("b")];
    place.until_workers(2);
    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    place.until_checkpoints("cars", 2);

    workers[0].kill();
    place.until_checkpoints("cars", 2);
    workers[0] = place.worker("a");
    place.until_workers(2);

    coordinator.kill();
    coordinator = place.coordinator();
    place.until_workers(2);
    place.until_checkpoints("cars", 1);

    place.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(place.lines("out"), expected());
    drop(coordinator);
}

#[test]
fn a_standby_takes_over_and_the_client_finds_it() {
    let place = Place::new();
    let mut first = place.coordinator();
    until("the first leads", || {
        place.cli_at(&place.url(), &["cluster", "info"]).status.code() == Some(0)
    });
    let second_port = free_port();
    let _second = place.coordinator_at(second_port);
    let standby = format!("http://127.0.0.1:{second_port}");
    let both = format!("{},{standby}", place.url());
    let _worker = place.worker_of("a", &both);
    place.until_workers(1);
    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    place.until_checkpoints("cars", 1);
    // A standby answers with where the leader is.
    until("the standby knows the leader", || {
        place.cli_at(&standby, &["jobs", "describe", "cars"]).status.code() == Some(0)
    });

    first.kill();
    let output = place.cli_at(&both, &["jobs", "wait", "cars", "--for", "finished"]);
    assert_eq!(output.status.code(), Some(0), "{}", crate::place::text(&output.stderr));
    assert_eq!(place.lines("out"), expected());
}

#[test]
fn a_worker_that_is_asked_to_leave_hands_its_tasks_over() {
    let place = Place::new();
    let _coordinator = place.coordinator();
    let mut leaving = place.worker("a");
    place.until_workers(1);
    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    place.until_checkpoints("cars", 1);
    let _stays = place.worker("b");
    place.until_workers(2);
    leaving.signal("TERM");
    until("the worker has left", || leaving.has_ended());
    place.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(place.lines("out"), expected());
}
