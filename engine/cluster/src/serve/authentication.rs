//! Authentication of gRPC requests, before their messages are read.

use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status};

use super::to_status;
use crate::access::{Access, Caller, Right, Surface};
use crate::api::Error;

/// Returns an interceptor of the client API's services, which adds the [`Caller`] to the extensions of each request.
/// Anonymous callers are refused unless `admits_anonymous`.
pub(super) fn client_interceptor(
    access: &Access,
    admits_anonymous: bool,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    let access = access.clone();
    move |mut request| {
        let caller = caller(&access, Surface::Grpc, &request);
        let admitted = caller.and_then(|caller| match admits_anonymous {
            true => Ok(caller),
            false => caller.identified(),
        });
        request
            .extensions_mut()
            .insert(admitted.map_err(|error| to_status(&error))?);
        Ok(request)
    }
}

/// Returns an interceptor of the service at which workers register.
pub fn worker_interceptor(
    access: &Access,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    let access = access.clone();
    move |request| {
        let caller = caller(&access, Surface::Worker, &request);
        let checked = caller.and_then(|caller| caller.check(Right::Register, None));
        checked.map_err(|error| to_status(&error))?;
        Ok(request)
    }
}

fn caller(access: &Access, surface: Surface, request: &Request<()>) -> Result<Caller, Error> {
    let header = request.metadata().get("authorization");
    access.caller(surface, header.map(AsciiMetadataValue::as_bytes))
}
