//! The pipeline of a command: its unchanged text, and the environment variables that the text refers to.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use millstream_proto::report::render;
use millstream_proto::{spec, v1};

use crate::arguments::{File, Mode};
use crate::failure::Failure;

/// Text of a pipeline.
pub struct Pipeline {
    /// File name for messages.
    pub file: String,
    text: String,
    sql: bool,
}

impl Pipeline {
    /// Reads a file, or standard input.
    pub fn read(file: &File) -> Result<Self, Failure> {
        let name = file.file.display().to_string();
        let (name, sql) = match name.as_str() {
            "-" => ("<stdin>".to_string(), false),
            _ => {
                let extension = file.file.extension().and_then(|extension| extension.to_str());
                let sql = match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
                    "yaml" | "yml" | "json" => false,
                    "sql" => true,
                    _ => {
                        return Err(Failure::invalid(format!(
                            "{name}: unknown file type; name the pipeline's file .yaml, .yml, .json or .sql"
                        )));
                    }
                };
                (name, sql)
            }
        };
        let fail = |what: String| Failure::invalid(format!("{name}: {what}"));
        let bytes = bytes(file).map_err(|error| fail(format!("cannot be read: {error}")))?;
        if bytes.len() > spec::TEXT_BYTES_MAX {
            let max = spec::TEXT_BYTES_MAX;
            return Err(fail(format!(
                "the file has more than {max} bytes (TEXT_BYTES_MAX), the limit for a pipeline"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            fail(format!("line {line} is not UTF-8 text; save the file as UTF-8"))
        })?;
        Ok(Self { file: name, text, sql })
    }

    /// Returns the job's name from the text; `None` for SQL, which only the server parses.
    pub fn name(&self) -> Option<String> {
        match self.sql {
            true => None,
            false => spec::parse(&self.text).ok().map(|parsed| parsed.spec.name),
        }
    }

    /// Returns the pipeline as requests carry it.
    pub fn message(&self, environment: &dyn Fn(&str) -> Option<String>) -> v1::Pipeline {
        let text = v1::SpecText {
            text: self.text.clone(),
            file: self.file.clone(),
        };
        let variables: HashMap<String, String> = self
            .variables()
            .into_iter()
            .filter_map(|name| environment(&name).map(|value| (name, value)))
            .collect();
        v1::Pipeline {
            pipeline: Some(match self.sql {
                true => v1::pipeline::Pipeline::Sql(text),
                false => v1::pipeline::Pipeline::Yaml(text),
            }),
            environment: variables,
        }
    }

    /// Returns the variables that the text refers to; in YAML, references in comments and in SQL do not count.
    fn variables(&self) -> BTreeSet<String> {
        if self.sql {
            return spec::variables(&self.text);
        }
        let Ok(parsed) = spec::parse(&self.text) else {
            // The server reports all mistakes of the text, and needs no values for that.
            return BTreeSet::new();
        };
        let named = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            named.borrow_mut().insert(name.to_string());
            Some(String::new())
        };
        // The server determines the mode. It reports malformed references, too.
        for mode in [v1::Mode::Stream, v1::Mode::Batch, v1::Mode::Serve] {
            let (mut of_mode, mut positions) = (parsed.spec.clone(), parsed.positions.clone());
            if let Ok(parameters) = spec::apply_mode(&mut of_mode, &mut positions, mode) {
                spec::expand(&mut of_mode, &positions, &parameters, &lookup).ok();
            }
        }
        named.into_inner()
    }

    /// Returns the failure with the mistakes of the pipeline, each with file, line and column, as its message.
    pub fn with_mistakes(&self, failure: Failure, color: bool) -> Failure {
        let mistakes = failure.detail.as_ref().map(|detail| detail.mistakes.as_slice());
        match self.mistakes(mistakes.unwrap_or_default(), color) {
            None => failure,
            Some(message) => Failure { message, ..failure },
        }
    }

    /// Returns the text of the mistakes; `None` if there are none.
    pub fn mistakes(&self, mistakes: &[v1::Mistake], color: bool) -> Option<String> {
        (!mistakes.is_empty()).then(|| render(&self.file, &self.text, mistakes, color))
    }
}

fn bytes(file: &File) -> std::io::Result<Vec<u8>> {
    // One byte more than allowed, to detect longer files.
    let limit = spec::TEXT_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if file.file.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(&file.file)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Returns a variable of this process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the mode as requests carry it.
pub fn mode(mode: Option<Mode>) -> Option<i32> {
    mode.map(|mode| match mode {
        Mode::Stream => v1::Mode::Stream as i32,
        Mode::Batch => v1::Mode::Batch as i32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_the_text_names_are_sent() {
        #[track_caller]
        fn check(sql: bool, text: &str, expected: &[&str]) {
            let pipeline = Pipeline {
                file: "a".into(),
                text: text.into(),
                sql,
            };
            let message = pipeline.message(&|name| (name != "UNSET").then(|| "value".to_string()));
            let mut sent: Vec<&str> = message.environment.keys().map(String::as_str).collect();
            sent.sort_unstable();
            assert_eq!(sent, expected);
        }
        check(
            true,
            "WITH ('a' = '${ONE}', 'b' = '${UNSET}', 'c' = '$${TWO}')",
            &["ONE"],
        );
        let yaml = "name: a # ${COMMENT}\nsources:\n  s:\n    connector: kafka\n    options: { brokers: \"${HOST:-x}\" }\n    columns: { a: bigint }\nsinks:\n  out: { from: s, connector: print }\n";
        check(false, yaml, &["HOST"]);
        check(false, "name: [", &[]);
    }
}
