//! Fallback to an older checkpoint when newer ones are damaged, and the duplicates that it causes.
//!
//! Output is published when its checkpoint is complete. A job that restores an older checkpoint reads the later input
//! again and produces its output again: under exactly-once delivery the rows would occur twice without notice. Such a
//! fallback is refused unless the user accepts it. It is harmless if no skipped checkpoint has output, and it is
//! within the guarantee of at-least-once delivery.

use crate::Error;

/// The output of a checkpoint that cannot be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The manifest is readable and lists none.
    None,
    /// The manifest lists some.
    Present,
    /// The manifest is not readable.
    Unknown,
}

/// A complete checkpoint that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedCheckpoint {
    /// Its number.
    pub checkpoint: u64,
    /// The damaged object and the damage.
    pub reason: String,
    /// Its output.
    pub output: Output,
}

/// The policy for fallbacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Sinks that deliver exactly once.
    pub exactly_once_sinks: Vec<String>,
    /// The user accepts duplicates of checkpoints up to this one.
    pub duplicates_allowed_to: u64,
}

impl Policy {
    /// Checks that `base` may be restored instead of the newer checkpoints that are damaged. Refused if rows would be
    /// published twice.
    pub fn check(&self, base: u64, passed_over: &[SkippedCheckpoint]) -> Result<(), Error> {
        let with_output = || passed_over.iter().filter(|passed| passed.output != Output::None);
        let Some(newest) = with_output().map(|passed| passed.checkpoint).max() else {
            return Ok(());
        };
        if self.exactly_once_sinks.is_empty() || newest <= self.duplicates_allowed_to {
            return Ok(());
        }
        let damage: Vec<String> = passed_over
            .iter()
            .map(|passed| format!("checkpoint {} is damaged ({})", passed.checkpoint, passed.reason))
            .collect();
        let sinks: Vec<String> = self.exactly_once_sinks.iter().map(|sink| format!("`{sink}`")).collect();
        let duplicates = match newest == base + 1 {
            true => format!("checkpoint {newest}"),
            false => format!("checkpoints {} to {newest}", base + 1),
        };
        let published = match with_output().any(|passed| passed.output == Output::Present) {
            true => "was published",
            false => "may have been published",
        };
        Err(Error::Failed(format!(
            "{}; the newest checkpoint that can be restored is {base}, but output after it, up to checkpoint {newest}, \
             {published}, and going on from {base} would write those rows to {} a second time. Repair what is damaged, \
             or accept duplicates of {duplicates} with --allow-duplicates (`engine run`, `engine-cli jobs \
             restart`)",
            damage.join("; "),
            sinks.join(", "),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fallback from these to checkpoint 7 is refused with `words`; without words it is not refused.
    #[track_caller]
    fn check(sinks: &[&str], duplicates_allowed_to: u64, passed_over: &[(u64, Output)], words: &[&str]) {
        let policy = Policy {
            exactly_once_sinks: sinks.iter().map(ToString::to_string).collect(),
            duplicates_allowed_to,
        };
        let passed_over: Vec<SkippedCheckpoint> = passed_over
            .iter()
            .map(|(checkpoint, output)| SkippedCheckpoint {
                checkpoint: *checkpoint,
                reason: "x.sst is missing".into(),
                output: *output,
            })
            .collect();
        match policy.check(7, &passed_over) {
            Ok(()) => assert!(words.is_empty(), "not refused"),
            Err(error) => {
                let text = error.to_string();
                assert!(!words.is_empty(), "{text}");
                for word in words {
                    assert!(text.contains(word), "{word}: {text}");
                }
            }
        }
    }

    #[test]
    fn published_output_is_not_duplicated_without_consent() {
        use Output::{None, Present, Unknown};
        check(&["out"], 0, &[], &[]);
        check(&["out"], 0, &[(8, None), (9, None)], &[]);
        check(&[], 0, &[(8, Present), (9, Unknown)], &[]);
        check(&["out"], 9, &[(8, Present), (9, Unknown)], &[]);
        check(
            &["out"],
            0,
            &[(9, None), (8, Unknown)],
            &[
                "checkpoint 9 is damaged (x.sst is missing); checkpoint 8",
                "up to checkpoint 8, may have been published",
                "to `out` a second time",
                "duplicates of checkpoint 8 with --allow-duplicates",
            ],
        );
        check(
            &["out", "b"],
            8,
            &[(9, Present), (8, Present)],
            &[
                "was published",
                "to `out`, `b` a second",
                "duplicates of checkpoints 8 to 9 with",
            ],
        );
    }
}
