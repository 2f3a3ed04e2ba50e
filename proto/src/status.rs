//! The encoding of an [`ErrorDetail`] in a gRPC status: as the detail of a `google.rpc.Status`, which tools that
//! implement the usual error model can read.

use prost::{Message, Name};

use crate::v1::ErrorDetail;

/// `google.rpc.Status`, by convention the content of `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Returns a status with `detail`.
pub fn with_detail(code: tonic::Code, message: &str, detail: &ErrorDetail) -> tonic::Status {
    let details = RpcStatus {
        code: code as i32,
        message: message.to_string(),
        details: vec![Any {
            type_url: ErrorDetail::type_url(),
            value: detail.encode_to_vec(),
        }],
    };
    tonic::Status::with_details(code, message, details.encode_to_vec().into())
}

/// Returns the detail of a status; `None` if the status was created by a library or a proxy.
pub fn detail(status: &tonic::Status) -> Option<ErrorDetail> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let ours = details.iter().find(|any| any.type_url == ErrorDetail::type_url())?;
    ErrorDetail::decode(ours.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_survives_the_way_through_a_status() {
        let sent = ErrorDetail {
            code: "name-in-use".into(),
            ..ErrorDetail::default()
        };
        let status = with_detail(tonic::Code::AlreadyExists, "taken", &sent);
        assert_eq!(detail(&status), Some(sent));
        assert_eq!(detail(&tonic::Status::unavailable("no route")), None);
    }
}
