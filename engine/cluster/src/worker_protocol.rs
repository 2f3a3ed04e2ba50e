//! The two ends of a worker's stream to the coordinator (`WorkerControl`): limits and texts that both must agree on.

use std::time::Duration;

/// Largest message in either direction, in bytes. The state to restore and the splits of an attempt travel in one
/// message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Error message with which a standby rejects a worker. The worker then asks the standby for the leader's address.
pub(crate) const STANDBY_MESSAGE: &str = "this coordinator stands by; try another address";

/// Time after which a worker without a coordinator ends its tasks. It is long because an outage of the coordinators
/// costs nothing meanwhile, and finite because the tasks of a worker that is cut off run elsewhere by then.
pub(crate) const ORPHAN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
