//! Keys of request and response metadata.

/// Request: the model that is asked.
pub const MODEL: &str = "understudy-model";
/// Request: the version that must answer. Answer: the version that did.
pub const VERSION: &str = "understudy-version";
/// Request: callers with equal values meet the same version while weights stay or their version's weight grows.
pub const AFFINITY: &str = "understudy-affinity";
/// Request: a call chain's draw, a decimal fraction in [0, 1), so that its calls meet versions released together.
pub const DRAW: &str = "understudy-draw";
/// Answer: the arm of the route that the request was given to.
pub const ARM: &str = "understudy-arm";
/// Answer: the worker that answered.
pub const WORKER: &str = "understudy-worker";
/// Request from a router: a copy, whose answer no client sees. Workers serve it from spare capacity only.
pub const SHADOW: &str = "understudy-shadow";
/// Answer: names this request in `Feedback`.
pub const REQUEST_ID: &str = "understudy-request-id";
