//! `engine checkpoints`: what can be resumed from.

use crate::arguments::Place;
use crate::{Failure, pipeline};

/// One line per checkpoint, newest first.
pub fn list(job: &str, place: &Place) -> Result<String, Failure> {
    let name = pipeline::job_name(job).map_err(Failure::Wrong)?;
    let storage = place.checkpoints(None).map_err(Failure::Wrong)?;
    if place.checkpoint_storage.is_none() && !std::path::Path::new(&storage).exists() {
        return Ok(none(&name));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
    let listed = runtime
        .block_on(millstream_cluster::list(&name, &storage))
        .map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
    if listed.is_empty() {
        return Ok(none(&name));
    }
    let mut out = String::from("CHECKPOINT  TAKEN                STATE       PARALLELISM  NOTE\n");
    for checkpoint in listed {
        let line = match checkpoint.detail {
            Ok(detail) => format!(
                "{:<10}  {}  {:<10}  {:<11}  {}",
                checkpoint.id,
                millstream_proto::report::time(checkpoint.taken_us),
                millstream_proto::report::amount(checkpoint.state_bytes),
                detail.parallelism,
                match (detail.finished, detail.in_flight_bytes) {
                    (true, _) => "all input processed",
                    (false, 0) => "",
                    (false, _) => "with rows in flight",
                }
            ),
            Err(damage) => format!("{:<10}  damaged: {damage}", checkpoint.id),
        };
        out.push_str(line.trim_end());
        out.push('\n');
    }
    Ok(out)
}

fn none(name: &str) -> String {
    format!("no checkpoints of `{name}`\n")
}
