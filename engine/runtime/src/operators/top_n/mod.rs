//! The first rows of each partition, without windows, which are updated as rows arrive.
//!
//! There are three ways to keep them:
//!
//! * [`FirstToCome`]: the first rows to come are the first rows. The state of a partition is the number of its rows,
//!   and the output is append-only.
//! * [`BestRows`]: the input is append-only. The state of a partition is the list of its first rows ([`ranked_list`]).
//! * [`AllRows`]: the input is a changelog, so the rows after the first ones may become first. All rows are in a
//!   collection in their order; the state of a partition is the list of its first rows and some more. If too few rows
//!   are known, the list is read from the collection.
//!
//! The output of a partition is its list; the driver passes the lists before and after a call, and the difference
//! ([`ListOutput`]) is what is emitted.

mod all_rows;
mod best_rows;
mod first_to_come;
mod list_output;
mod ranked_list;
mod row_encoding;

use arrow::datatypes::SchemaRef;
use millstream_connectors::changelog;
use millstream_graph::{self as graph, Emission, Stream};

use self::all_rows::AllRows;
use self::best_rows::BestRows;
use self::first_to_come::FirstToCome;
use self::list_output::ListOutput;
use self::ranked_list::Ranks;
use self::row_encoding::RowEncoding;
pub(super) use self::row_encoding::SortKeys;
use super::OperatorContext;
use super::keyed::{Keyed, KeyedLogic, expires};
use crate::Error;
use crate::operator::Operator;

/// Makes the operator of a node.
pub(super) fn top_n(
    name: &str,
    node: &graph::TopN,
    input: &SchemaRef,
    output: &Stream,
    context: OperatorContext,
) -> Result<Box<dyn Operator>, Error> {
    let invalid = |message: String| Error::Operator {
        operator: name.to_owned(),
        message,
    };
    let is_changelog = changelog::is_changelog(input);
    let keeps_first_to_come = node.keeps_first_to_come() && !is_changelog;
    if node.to > graph::TopN::RANK_MAX && !keeps_first_to_come {
        return Err(invalid(format!("the rank {} is too great", node.to)));
    }
    if is_changelog && (node.is_by_arrival || node.prefers_last) {
        return Err(invalid("rows of a changelog have no order of arrival".to_owned()));
    }
    let columns = input.fields().len() - usize::from(is_changelog);
    let encoding = RowEncoding::new(input, &node.partition, columns, is_changelog)?;
    let common = Common {
        name: name.to_owned(),
        partition: node.partition.clone(),
        sort_keys: SortKeys::new(&node.order, input)?,
        ranks: Ranks {
            function: node.function,
            from: node.from.max(1),
            to: node.to,
        },
        max_parallelism: context.max_parallelism,
        is_expiring: expires(node.state_ttl, node.emission),
        output: ListOutput::new(node, &encoding, output)?,
        encoding,
    };
    if keeps_first_to_come {
        // Rows are emitted as they come, also in a batch.
        return keyed(FirstToCome::new(common)?, Emission::Changes, node, output, context);
    }
    match is_changelog {
        true => keyed(AllRows::new(common)?, node.emission, node, output, context),
        false => keyed(
            BestRows::new(common, node.prefers_last)?,
            node.emission,
            node,
            output,
            context,
        ),
    }
}

fn keyed<L: KeyedLogic + 'static>(
    logic: L,
    emission: Emission,
    node: &graph::TopN,
    output: &Stream,
    context: OperatorContext,
) -> Result<Box<dyn Operator>, Error> {
    let (mode, schema) = (output.changelog.clone(), output.schema.clone());
    let ttl = node.state_ttl.filter(|_| expires(node.state_ttl, node.emission));
    Ok(Box::new(Keyed::new(logic, mode, emission, ttl, schema, context)?))
}

/// Properties that all kinds of logic share.
struct Common {
    /// Name of the operator, for messages.
    name: String,
    partition: Vec<usize>,
    sort_keys: SortKeys,
    encoding: RowEncoding,
    ranks: Ranks,
    output: ListOutput,
    max_parallelism: u16,
    is_expiring: bool,
}

#[cfg(test)]
pub(super) mod tests;
