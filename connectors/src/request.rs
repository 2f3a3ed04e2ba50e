//! The tables of a service: `request`, whose rows arrive with a request, and `response`, whose rows answer it.
//!
//! A service decodes and encodes these rows itself, with a format that the request names, and runs its pipeline over
//! them in memory. So there is no source to read and no sink to write: the connectors only describe the tables.

use crate::changelog::ChangelogSupport;
use crate::{Connector, OptionDescription, Role, TableDefinition};

/// Name of the connector of a table that is read from the request.
pub const REQUEST: &str = "request";
/// Name of the connector of a table that is written to the response.
pub const RESPONSE: &str = "response";

/// The connector `request`.
pub struct Request;

impl Connector for Request {
    fn name(&self) -> &'static str {
        REQUEST
    }

    fn help(&self) -> &'static str {
        "Reads the rows of a request, in the mode `serve`."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        &[]
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        true
    }
}

/// The connector `response`.
pub struct Response;

impl Connector for Response {
    fn name(&self) -> &'static str {
        RESPONSE
    }

    fn help(&self) -> &'static str {
        "Answers a request with rows, in the mode `serve`."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Sink]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        &[]
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    /// The rows of a response are final, so none is an update.
    fn changelog(&self, _table: &TableDefinition, _role: Role) -> ChangelogSupport {
        ChangelogSupport::Append
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        true
    }
}
