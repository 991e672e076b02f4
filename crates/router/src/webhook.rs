//! Calls that tell others of a rollout's transitions: POST of JSON, signed, tried again for about half a minute.
//!
//! ```text
//!   send ─▶ one queue for each address ─▶ sign and POST ──2xx──▶ delivered
//!               (full: the oldest goes)      ▲      ├─ no answer, 5xx, 429 ─▶ wait, twice as long each time; then give up
//!                                            └──────┘  any other: given up at once
//! ```
//!
//! Invariants: the sender never waits; transitions reach an address in their order; an address that fails delays no other; an
//! unsigned call is never made. A call may arrive twice (its answer may be lost): `understudy-delivery` tells that.
//!
//! Deliberately absent: a store. A router that dies between a transition and its call does not make it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use hmac::{Hmac, Mac as _};
use reqwest::{Client, StatusCode, redirect::Policy};
use sha2::Sha256;
use understudy_protocol::{json, v1};

/// Header with the body's HMAC-SHA256 in hexadecimal, after "sha256=".
pub const SIGNATURE: &str = "understudy-signature";
/// Header that names the transition, the same in every try: model, the rollout's number, and the transition's place in it.
pub const DELIVERY: &str = "understudy-delivery";

/// Calls that wait for one address.
const QUEUE_MAX: usize = 64;
/// Addresses that are called at one time.
const ADDRESSES_MAX: usize = 256;
/// Tries after the first.
const RETRIES_MAX: u32 = 6;
/// The longest that one try may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the first retry; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// Calls that tell of transitions. Clones share their queues.
#[derive(Clone)]
pub struct Webhooks {
    inner: Arc<Inner>,
}

struct Inner {
    pace: Pace,
    /// Finds a secret by its variable's name.
    secrets: fn(&str) -> Option<String>,
    /// Made at the first call: most routers make none.
    client: OnceLock<Option<Client>>,
    /// By address; one is here for as long as a task works on it.
    queues: Mutex<HashMap<String, VecDeque<Call>>>,
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
struct Pace {
    call_timeout: Duration,
    first_delay: Duration,
}

#[derive(Debug)]
struct Call {
    secret_env: String,
    delivery: String,
    body: String,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self::new()
    }
}

impl Webhooks {
    /// Without any calls yet.
    #[must_use]
    pub fn new() -> Self {
        let pace = Pace {
            call_timeout: CALL_TIMEOUT,
            first_delay: FIRST_DELAY,
        };
        Self::with(pace, secret_of_environment)
    }

    fn with(pace: Pace, secrets: fn(&str) -> Option<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                pace,
                secrets,
                client: OnceLock::new(),
                queues: Mutex::default(),
            }),
        }
    }

    /// Tells all webhooks of the rollout's spec of a transition that was just written. Never waits; must run inside of a tokio
    /// runtime.
    pub fn send(&self, rollout: &v1::Rollout, transition: &v1::Transition) {
        let Some(spec) = rollout.spec.as_ref().filter(|spec| !spec.webhooks.is_empty()) else {
            return;
        };
        let delivery = delivery(rollout, transition);
        let body = match body(rollout, spec, transition) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(model = rollout.model, %error, "cannot tell webhooks of a transition");
                return;
            }
        };
        for webhook in &spec.webhooks {
            let call = Call {
                secret_env: webhook.secret_env.clone(),
                delivery: delivery.clone(),
                body: body.clone(),
            };
            self.enqueue(&webhook.url, call);
        }
    }

    fn enqueue(&self, url: &str, call: Call) {
        let mut queues = self.inner.queues();
        if let Some(queue) = queues.get_mut(url) {
            if queue.len() >= QUEUE_MAX
                && let Some(oldest) = queue.pop_front()
            {
                tracing::warn!(
                    url = public(url),
                    delivery = oldest.delivery,
                    "webhook dropped: {QUEUE_MAX} later ones wait for this address"
                );
            }
            queue.push_back(call);
        } else if queues.len() >= ADDRESSES_MAX {
            tracing::warn!(
                url = public(url),
                delivery = call.delivery,
                "webhook dropped: {ADDRESSES_MAX} other addresses are being called"
            );
        } else {
            queues.insert(url.to_owned(), VecDeque::from([call]));
            tokio::spawn(drain(Arc::clone(&self.inner), url.to_owned()));
        }
    }
}

/// Makes an address's calls until there are no more.
async fn drain(inner: Arc<Inner>, url: String) {
    loop {
        let call = {
            let mut queues = inner.queues();
            let Some(call) = queues.get_mut(&url).and_then(VecDeque::pop_front) else {
                // Under the same lock: what comes now starts anew.
                queues.remove(&url);
                return;
            };
            call
        };
        inner.deliver(&url, &call).await;
    }
}

/// How a try failed.
struct Failure {
    reason: String,
    again: bool,
}

impl Inner {
    fn queues(&self) -> std::sync::MutexGuard<'_, HashMap<String, VecDeque<Call>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deliver(&self, url: &str, call: &Call) {
        let Some(secret) = (self.secrets)(&call.secret_env) else {
            tracing::error!(
                url = public(url),
                delivery = call.delivery,
                "webhook not sent: set the router's environment variable {} to the secret that signs it",
                call.secret_env
            );
            return;
        };
        let Some(client) = self.client.get_or_init(|| client(self.pace)) else {
            return;
        };
        let signature = format!("sha256={}", sign(secret.as_bytes(), call.body.as_bytes()));
        let mut delay = self.pace.first_delay;
        for retries_left in (0..=RETRIES_MAX).rev() {
            let Err(failure) = attempt(client, url, call, &signature).await else {
                tracing::debug!(url = public(url), delivery = call.delivery, "webhook delivered");
                return;
            };
            let reason = &failure.reason;
            if !failure.again || retries_left == 0 {
                tracing::warn!(url = public(url), delivery = call.delivery, reason, "webhook given up");
                return;
            }
            tracing::debug!(
                url = public(url),
                delivery = call.delivery,
                reason,
                "webhook failed; trying again"
            );
            // Between half of it and all of it.
            tokio::time::sleep(delay.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            delay *= 2;
        }
    }
}

async fn attempt(client: &Client, url: &str, call: &Call, signature: &str) -> Result<(), Failure> {
    let request = client
        .post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(DELIVERY, &call.delivery)
        .header(SIGNATURE, signature)
        .body(call.body.clone());
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(Failure {
            reason: format!("answered {}", answer.status()),
            again: answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS,
        }),
        Err(error) => Err(Failure {
            again: !error.is_builder(),
            reason: causes(&error.without_url()),
        }),
    }
}

/// An error's text with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Paths and queries of webhooks often hold tokens: they are not logged.
fn public(url: &str) -> String {
    reqwest::Url::parse(url).map_or_else(|_| "(no address)".to_owned(), |url| url.origin().ascii_serialization())
}

fn client(pace: Pace) -> Option<Client> {
    let build = || -> anyhow::Result<Client> {
        use rustls_platform_verifier::BuilderVerifierExt as _;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // What was signed for one address is not for another.
            .redirect(Policy::none())
            .timeout(pace.call_timeout)
            .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")));
        Ok(client.build()?)
    };
    build()
        .inspect_err(|error| {
            tracing::error!(
                error = format_args!("{error:#}"),
                "no webhook can be sent: are the system's certificates installed (package ca-certificates)?"
            );
        })
        .ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the variable's name is known only once a rollout names it"
)]
fn secret_of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|secret| !secret.is_empty())
}

/// HMAC-SHA256 (RFC 2104) in hexadecimal.
fn sign(secret: &[u8], body: &[u8]) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(body);
    let hex = |byte: &u8| format!("{byte:02x}");
    mac.finalize().into_bytes().iter().map(hex).collect()
}

/// The transition's name for receivers that want each only once.
fn delivery(rollout: &v1::Rollout, transition: &v1::Transition) -> String {
    let number = transition.rollout;
    let of_rollout = || rollout.history.iter().filter(|t| t.rollout == number);
    // Equal ones differ in their place; the latest was just written.
    let index = of_rollout()
        .enumerate()
        .filter(|(_, t)| *t == transition)
        .last()
        .map_or_else(|| of_rollout().count(), |(index, _)| index);
    format!("{}/{number}/{index}", rollout.model)
}

/// The transition's protobuf JSON, with its zeros, and what it is a transition of.
fn body(
    rollout: &v1::Rollout,
    spec: &v1::RolloutSpec,
    transition: &v1::Transition,
) -> Result<String, Box<dyn std::error::Error>> {
    use serde_json::{Map, Value};
    let mut body = Map::new();
    for (name, value) in [
        ("model", &rollout.model),
        ("stable", &spec.stable),
        ("candidate", &spec.candidate),
        ("reason", &String::new()),
    ] {
        body.insert(name.to_owned(), Value::from(value.as_str()));
    }
    for name in ["step", "weightPpm"] {
        body.insert(name.to_owned(), Value::from(0));
    }
    let transition: Map<String, Value> = serde_json::from_str(&json::to_string(transition)?)?;
    body.extend(transition);
    Ok(Value::Object(body).to_string())
}

#[cfg(test)]
mod tests;
