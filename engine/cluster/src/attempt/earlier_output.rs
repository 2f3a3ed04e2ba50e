//! Output of earlier runs where a job starts without state: readers would read its rows beside the new ones.

use super::connectors::create_connectors;
use crate::Error;
use crate::job::Job;
use crate::progress::Progress;

/// Removes the earlier output of every sink if the job asks for that ([`Job::remove_output`]); otherwise warns of it.
pub(crate) async fn earlier_output(job: &Job, progress: &Progress) -> Result<(), Error> {
    let connectors = create_connectors(job)?;
    let mut sinks: Vec<_> = connectors.sinks.iter().collect();
    sinks.sort_by_key(|(node, _)| **node);
    for (node, sink) in sinks {
        let Some(earlier) = sink.earlier_output().await? else {
            continue;
        };
        let id = &job.graph.nodes[*node].id;
        if job.remove_output {
            sink.remove_earlier_output().await?;
            progress.info(format!("`{id}`: removed {earlier}"));
        } else {
            progress.warn(format!(
                "`{id}`: {earlier}: kept beside the output of this run, so that readers find rows of both \
                 (--fresh --remove-output removes it first)"
            ));
        }
    }
    Ok(())
}
