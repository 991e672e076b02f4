//! gRPC errors with `google.rpc` details, the same from every server.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Domain of `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "understudy";

/// INVALID_ARGUMENT with a `BadRequest` that names the field, e.g. `texts[3]`.
#[must_use]
pub fn bad_request(field: &str, problem: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, problem);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {problem}"), details)
}

/// A refusal that may succeed later, with `RetryInfo`.
#[must_use]
pub fn retry_later(code: Code, message: impl Into<String>, after: Duration) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(after)))
}

/// An error with an `ErrorInfo` whose `reason` is a constant in UPPER_SNAKE_CASE that programs can match on.
#[must_use]
pub fn reason(code: Code, message: impl Into<String>, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, message, details)
}
