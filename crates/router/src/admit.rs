//! Who may send a request now. Everything here is decided at once; nobody waits.

mod rate;
mod tokens;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::{HeaderMap, header::AUTHORIZATION};

pub use rate::RateLimiter;
pub use tokens::Tokens;

use crate::{config::AdmissionOptions, status::Refusal};

/// Name under which callers without an identity share one rate.
const ANYBODY: &str = "";

/// The door of the data plane.
#[derive(Debug)]
pub struct Admission {
    in_flight: Arc<AtomicUsize>,
    concurrency_max: usize,
    tokens: Option<Tokens>,
    rates: Option<RateLimiter>,
}

/// A request's place; given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Reads the file of tokens, if one is named.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn new(options: &AdmissionOptions, now: Instant) -> anyhow::Result<Self> {
        Ok(Self {
            in_flight: Arc::default(),
            concurrency_max: options.concurrency_max,
            tokens: options.tokens.as_deref().map(Tokens::read).transpose()?,
            rates: options.rate_limit.map(|per_second| RateLimiter::new(per_second, now)),
        })
    }

    /// Who calls: the name in the certificate, or else the token's. Takes the token out of the metadata, because it
    /// is meant for this router only.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] if tokens are asked for.
    pub fn identify(&self, headers: &mut HeaderMap, certificate: Option<&Arc<str>>) -> Result<Arc<str>, Refusal> {
        let Some(tokens) = &self.tokens else {
            return Ok(certificate.map_or_else(|| ANYBODY.into(), Arc::clone));
        };
        let value = headers.remove(AUTHORIZATION);
        if let Some(certificate) = certificate {
            return Ok(Arc::clone(certificate));
        }
        let bearer = value.as_ref().and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        bearer
            .and_then(|token| tokens.name_of(token))
            .ok_or(Refusal::Unauthenticated)
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] or [`Refusal::Overloaded`].
    pub fn admit(&self, identity: &Arc<str>, now: Instant) -> Result<Permit, Refusal> {
        if self.rates.as_ref().is_some_and(|rates| !rates.take(identity, now)) {
            return Err(Refusal::RateLimited);
        }
        // The permit is made first, so that a refusal gives the place back.
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(&self.in_flight));
        if before < self.concurrency_max {
            Ok(permit)
        } else {
            Err(Refusal::Overloaded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> AdmissionOptions {
        AdmissionOptions {
            concurrency_max: 2,
            tokens: None,
            rate_limit: None,
        }
    }

    #[test]
    fn a_full_router_refuses_and_places_come_back() {
        let now = Instant::now();
        let admission = Admission::new(&options(), now).unwrap();
        let identity = admission.identify(&mut HeaderMap::new(), None).unwrap();
        let first = admission.admit(&identity, now).unwrap();
        let _second = admission.admit(&identity, now).unwrap();
        for _ in 0..3 {
            assert_eq!(admission.admit(&identity, now).unwrap_err(), Refusal::Overloaded);
        }
        drop(first);
        assert!(admission.admit(&identity, now).is_ok());
    }

    #[test]
    fn tokens_name_callers_and_do_not_go_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "shop 0123456789abcdef\n").unwrap();
        let options = AdmissionOptions {
            tokens: Some(file.path().to_owned()),
            ..options()
        };
        let admission = Admission::new(&options, Instant::now()).unwrap();
        let with = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, http::HeaderValue::from_static(value))]);
        let mut headers = with("bearer 0123456789abcdef");
        assert_eq!(&*admission.identify(&mut headers, None).unwrap(), "shop");
        assert!(headers.is_empty());
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bea",
        ] {
            assert_eq!(
                admission.identify(&mut with(wrong), None).unwrap_err(),
                Refusal::Unauthenticated,
                "{wrong}"
            );
        }
        let certificate: Arc<str> = "spiffe://x/y".into();
        assert_eq!(
            admission.identify(&mut HeaderMap::new(), Some(&certificate)).unwrap(),
            certificate
        );
    }
}
