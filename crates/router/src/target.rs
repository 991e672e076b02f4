//! From a gRPC path to a kind of model. One table holds every service that the data plane forwards; all other paths
//! belong to the services that the router itself answers.

use understudy_protocol::v1::Kind;

/// A service that workers answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ForwardedService {
    /// Its full name.
    pub name: &'static str,
    /// The kind of model that answers it.
    pub kind: Kind,
    /// Whether a request that a worker may have begun can safely be sent to another one.
    pub idempotent: bool,
}

/// All of them.
pub const FORWARDED: &[ForwardedService] = &[
    ForwardedService {
        name: "understudy.v1.Analyst",
        kind: Kind::Analyst,
        idempotent: true,
    },
    ForwardedService {
        name: "understudy.v1.Scribe",
        kind: Kind::Scribe,
        idempotent: false,
    },
];

/// The service of a path `/package.Service/Method`, if it is forwarded.
#[must_use]
pub fn forwarded(path: &str) -> Option<&'static ForwardedService> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!method.is_empty())
        .then(|| FORWARDED.iter().find(|f| f.name == service))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(
            forwarded("/understudy.v1.Analyst/Classify").map(|s| s.kind),
            Some(Kind::Analyst)
        );
        assert_eq!(
            forwarded("/understudy.v1.Scribe/Generate").map(|s| s.kind),
            Some(Kind::Scribe)
        );
        for other in [
            "",
            "/",
            "/understudy.v1.Analyst",
            "/understudy.v1.Analyst/",
            "/understudy.v1.Models/ListModels",
        ] {
            assert_eq!(forwarded(other), None, "{other}");
        }
    }
}
