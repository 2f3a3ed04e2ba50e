//! Reachability of a worker under the address that it advertises.
//!
//! A worker opens its stream to the coordinator itself, so it can be attached although other workers cannot connect
//! to it: its address may be wrong, known only to itself, or another worker's. Every job with tasks on it would fail.
//! Its slots therefore count only once the coordinator has connected to it under that address. Until then the
//! coordinator retries, and it tells the worker when it succeeds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_proto::v1;

use super::link::Link;
use super::{FleetEvent, Inner};
use crate::connect;

/// Pause before the first retry. It doubles with each.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Connects to the worker until that succeeds or the worker is lost.
pub(super) async fn probe(inner: Arc<Inner>, link: Weak<Link>) {
    let mut pause = RETRY_MIN;
    let mut last_reason = String::new();
    loop {
        let Some(current) = link.upgrade() else { return };
        let (worker, incarnation, address) = (
            current.name.clone(),
            current.incarnation.clone(),
            current.address.clone(),
        );
        let closed = current.closed.clone();
        drop(current);
        let found = tokio::select! {
            () = closed.cancelled() => return,
            found = check_address(&address, &incarnation) => found,
        };
        match &found {
            Ok(()) if !last_reason.is_empty() => tracing::info!(worker, address, "worker can be reached now"),
            Err(reason) if last_reason != *reason => {
                tracing::warn!(
                    worker,
                    address,
                    "worker gets no tasks, as it cannot be reached: {reason}"
                );
                last_reason.clone_from(reason);
            }
            _ => {}
        }
        let is_reached = found.is_ok();
        inner
            .send_event(FleetEvent::Reached {
                worker,
                incarnation,
                found,
            })
            .await;
        if is_reached {
            if let Some(link) = link.upgrade()
                && let Err(error) = link.order(v1::order::Order::Reached(v1::Reached {}))
            {
                tracing::debug!("{error}");
            }
            return;
        }
        tokio::select! {
            () = closed.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn check_address(address: &str, incarnation: &str) -> Result<(), String> {
    let identity = connect::worker_identity(address).await?;
    if identity.incarnation == incarnation {
        return Ok(());
    }
    Err(format!(
        "another worker, {}, listens at {address}; give each worker its own --advertise",
        identity.name
    ))
}
