//! Turns what went wrong into a sentence that says what to do next.

use std::error::Error;

use tonic::{Code, Status, transport};
use tonic_types::StatusExt as _;

use crate::output::duration;

/// Makes a failed call an error for the person at the terminal.
pub(crate) trait Explain<T> {
    fn explain(self) -> anyhow::Result<T>;
}

impl<T> Explain<T> for Result<tonic::Response<T>, Status> {
    fn explain(self) -> anyhow::Result<T> {
        self.map(tonic::Response::into_inner)
            .map_err(|status| anyhow::anyhow!(sentence(&status)))
    }
}

/// Nobody answers at the router's address.
pub(crate) fn unreachable(address: &str, error: &transport::Error) -> anyhow::Error {
    let next = if address.starts_with("https://") {
        "check the address, and --ca if the certificate is not signed by an authority that this machine knows"
    } else {
        "start the platform with `understudy up`, or name the router with --router or UNDERSTUDY_ROUTER"
    };
    anyhow::anyhow!("cannot reach the router at {address} ({}): {next}", root_cause(error))
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a status says, and what to do next.
pub(crate) fn sentence(status: &Status) -> String {
    let details = status.get_error_details();
    let violations = details
        .bad_request()
        .map(|bad| bad.field_violations.as_slice())
        .unwrap_or_default();
    let said = match violations {
        [] => said(status),
        fields => fields
            .iter()
            .map(|v| format!("{}: {}", v.field, v.description))
            .collect::<Vec<_>>()
            .join("; "),
    };
    let next = match details.retry_info().and_then(|info| info.retry_delay) {
        Some(delay) => Some(format!("try again in {}, or see `understudy status`", duration(delay))),
        None => next(status).map(str::to_owned),
    };
    match next {
        Some(next) if said.ends_with('?') => format!("{said} Then {next}"),
        Some(next) => format!("{}: {next}", said.trim_end_matches('.')),
        None => said,
    }
}

/// The cause, if the call did not fail at the other end but on the way.
fn broken_transport(status: &Status) -> Option<&(dyn Error + 'static)> {
    Error::source(status).filter(|source| source.is::<transport::Error>())
}

/// Whether the connection broke, so that another one may do better.
pub(crate) fn is_broken_transport(status: &Status) -> bool {
    broken_transport(status).is_some()
}

fn said(status: &Status) -> String {
    if let Some(transport) = broken_transport(status) {
        return format!("the connection to the router broke ({})", root_cause(transport));
    }
    match (status.message(), status.code()) {
        ("", Code::Unauthenticated) => "the router wants a token".into(),
        ("", Code::PermissionDenied) => "the router does not allow this".into(),
        ("", Code::DeadlineExceeded) | ("Timeout expired", _) => "there was no answer in time".into(),
        ("", code) => format!("the router answered {code:?} without a word"),
        (message, _) => message.to_owned(),
    }
}

fn next(status: &Status) -> Option<&'static str> {
    if broken_transport(status).is_some() {
        return Some("see `understudy status`; a router that speaks TLS has an address with https://");
    }
    // These say themselves what to do.
    let details = status.get_error_details();
    if details.error_info().is_some_and(|info| info.reason == "NO_ROLLOUT") {
        return None;
    }
    match status.code() {
        Code::Ok | Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => None,
        Code::NotFound => Some("`understudy models list` shows what there is"),
        Code::AlreadyExists => Some("a published version never changes, so choose another --version"),
        Code::Aborted => Some("see what changed with `understudy route show`, then try again"),
        Code::Unauthenticated => Some("pass --token or set UNDERSTUDY_TOKEN"),
        Code::PermissionDenied => Some("ask whoever runs the router"),
        Code::DeadlineExceeded => Some("allow more with --timeout, or see `understudy status`"),
        Code::ResourceExhausted => Some("send less at once, or run more workers (`understudy up --analysts 2`)"),
        Code::Unavailable | Code::Unknown => Some("see `understudy status`"),
        Code::Unimplemented => {
            Some("is --router the address of an Understudy router, and not older than this command?")
        }
        Code::Internal | Code::DataLoss => Some("this is a fault of the server, see its log"),
        Code::Cancelled => Some("try again"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use understudy_protocol::status;

    use super::*;

    #[test]
    fn statuses_become_sentences() {
        let cases = [
            (
                status::bad_request("texts[3]", "must not be empty"),
                "texts[3]: must not be empty",
            ),
            (
                status::retry_later(Code::Unavailable, "no worker is ready.", Duration::from_secs(2)),
                "no worker is ready: try again in 2.0 s, or see `understudy status`",
            ),
            (
                Status::already_exists("sentiment/v1 exists"),
                "sentiment/v1 exists: a published version never changes, so choose another --version",
            ),
            (
                Status::unauthenticated(""),
                "the router wants a token: pass --token or set UNDERSTUDY_TOKEN",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(sentence(&status), expected);
        }
    }
}
