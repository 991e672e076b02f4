//! Faults on demand: how rollouts, alarms and dashboards are tried out on versions that fail as real ones do.
//!
//! Off unless `--inject-fault` asks for it. A fault belongs to a version and meets the calls that name it in their metadata, as
//! every call from a router does; the version itself is left as it is. The edge carries it out, so it is the same for every
//! kind of worker.
//!
//! Which calls fail is decided by a hash of their number, so equal runs fail equally, and no pattern of callers can meet only
//! the good ones.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use understudy_protocol::{metadata, name};

use crate::{Error, config::parse_duration};

/// `MODEL/VERSION:FAULT`: what is done to a version's calls.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSpec {
    model: String,
    version: String,
    /// The share of calls that fail.
    error: f64,
    /// How long every call waits before it is worked on.
    delay: Duration,
}

impl FromStr for FaultSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, faults) = text
            .split_once(':')
            .ok_or("write it as MODEL/VERSION:FAULT, e.g. sentiment/v5:error=0.3 or sentiment/v5:delay=40ms")?;
        let (model, version) = target
            .split_once('/')
            .ok_or("name the version too, as MODEL/VERSION, e.g. sentiment/v5:error=0.3")?;
        name::check(model).map_err(|problem| format!("the model's name {problem}"))?;
        name::check(version).map_err(|problem| format!("the version's name {problem}"))?;
        let mut spec = Self {
            model: model.to_owned(),
            version: version.to_owned(),
            error: 0.0,
            delay: Duration::ZERO,
        };
        for fault in faults.split(',') {
            match fault.split_once('=') {
                Some(("error", share)) => {
                    let share = share.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
                    spec.error = share.ok_or("error is a share above 0 and up to 1, e.g. error=0.3")?;
                }
                Some(("delay", time)) => {
                    spec.delay = parse_duration(time).map_err(|problem| format!("delay {problem}"))?;
                }
                _ => return Err(format!("{fault:?} is no fault: there are error=SHARE and delay=TIME")),
            }
        }
        Ok(spec)
    }
}

impl fmt::Display for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:", self.model, self.version)?;
        let mut separator = "";
        if self.error > 0.0 {
            write!(f, "error={}", self.error)?;
            separator = ",";
        }
        if !self.delay.is_zero() {
            write!(f, "{separator}delay={:?}", self.delay)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    model: String,
    version: String,
    fault: &'static str,
}

/// The faults of this process. Cheap to clone; without any, a call costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    faults: Arc<[Fault]>,
    injected: Family<FaultLabels, Counter>,
}

#[derive(Debug)]
struct Fault {
    spec: FaultSpec,
    /// Calls so far.
    calls: AtomicU64,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Injected {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) delay: Duration,
    pub(crate) fails: bool,
}

impl Faults {
    /// Says loudly what was asked for.
    pub(crate) fn new(specs: &[FaultSpec], registry: &mut Registry) -> Result<Self, Error> {
        let mut faults = BTreeMap::new();
        for spec in specs {
            let target = format!("{}/{}", spec.model, spec.version);
            let fault = Fault {
                spec: spec.clone(),
                calls: AtomicU64::new(0),
            };
            if faults.insert(target.clone(), fault).is_some() {
                return Err(Error::Options(format!(
                    "--inject-fault names {target} twice; write its faults in one, e.g. {target}:error=0.3,delay=40ms"
                )));
            }
            tracing::warn!(fault = %spec, "faults are injected: this worker fails calls on purpose");
        }
        let faults = Self {
            faults: faults.into_values().collect(),
            injected: Family::default(),
        };
        registry.register(
            "understudy_worker_injected_faults",
            "Calls that failed or waited because --inject-fault asked for it",
            faults.injected.clone(),
        );
        Ok(faults)
    }

    /// What happens to the next call with this metadata; mostly nothing.
    pub(crate) fn next(&self, headers: &HeaderMap) -> Option<Injected> {
        if self.faults.is_empty() {
            return None;
        }
        let is = |key: &str, name: &str| headers.get(key).is_some_and(|value| value == name);
        let fault = self
            .faults
            .iter()
            .find(|fault| is(metadata::MODEL, &fault.spec.model) && is(metadata::VERSION, &fault.spec.version))?;
        let FaultSpec {
            model,
            version,
            error,
            delay,
        } = fault.spec.clone();
        let fails = draw(fault.calls.fetch_add(1, Ordering::Relaxed)) < error;
        for (fault, happens) in [("error", fails), ("delay", !delay.is_zero())] {
            if happens {
                let (model, version) = (model.clone(), version.clone());
                self.injected
                    .get_or_create(&FaultLabels { model, version, fault })
                    .inc();
            }
        }
        Some(Injected {
            model,
            version,
            delay,
            fails,
        })
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) of a call's number, as a number
/// in [0, 1).
fn draw(call: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut mixed = call.wrapping_add(1).wrapping_mul(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    // 32 bits are a double's exactly.
    let upper = (mixed >> 32) as u32;
    f64::from(upper) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(specs: &[&str]) -> Result<Faults, Error> {
        let specs: Vec<FaultSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        Faults::new(&specs, &mut Registry::default())
    }

    fn call(model: &str, version: &str) -> HeaderMap {
        [(metadata::MODEL, model), (metadata::VERSION, version)]
            .map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect()
    }

    #[test]
    fn what_is_asked_for() {
        for good in ["m/v1:error=0.3", "m/v1:delay=40ms", "m/v1:error=1,delay=2s"] {
            assert_eq!(good.parse::<FaultSpec>().unwrap().to_string(), good);
        }
        for (bad, expected) in [
            ("m/v1", "MODEL/VERSION:FAULT"),
            ("m:error=0.3", "name the version"),
            ("M/v1:error=0.3", "the model's name"),
            ("m/v1:error=0", "above 0"),
            ("m/v1:error=1.1", "up to 1"),
            ("m/v1:error=NaN", "up to 1"),
            ("m/v1:delay=40", "unit"),
            ("m/v1:panic=1", "no fault"),
            ("m/v1:", "no fault"),
        ] {
            let problem = bad.parse::<FaultSpec>().unwrap_err();
            assert!(problem.contains(expected), "{bad}: {problem}");
        }
        let problem = faults(&["m/v1:error=0.3", "m/v1:delay=1s"]).unwrap_err().to_string();
        assert!(problem.contains("m/v1 twice"), "{problem}");
    }

    #[test]
    fn a_fault_meets_its_version_alone() {
        let faults = faults(&["m/v5:error=1,delay=40ms", "m/v4:delay=1s"]).unwrap();
        let v5 = faults.next(&call("m", "v5")).unwrap();
        assert_eq!((v5.fails, v5.delay), (true, Duration::from_millis(40)));
        let v4 = faults.next(&call("m", "v4")).unwrap();
        assert_eq!((v4.fails, v4.delay), (false, Duration::from_secs(1)));
        assert_eq!(faults.next(&call("m", "v1")), None);
        assert_eq!(faults.next(&call("other", "v5")), None);
        assert_eq!(faults.next(&HeaderMap::new()), None);
    }

    #[test]
    fn the_share_holds_and_equal_runs_are_equal() {
        let run = || {
            let faults = faults(&["m/v5:error=0.3"]).unwrap();
            let call = call("m", "v5");
            (0..10_000)
                .map(|_| faults.next(&call).unwrap().fails)
                .collect::<Vec<_>>()
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second);
        let count = |calls: &[bool]| calls.iter().filter(|fails| **fails).count();
        // Standard deviation 46.
        assert!((2_800..3_200).contains(&count(&first)), "{}", count(&first));
        // Callers that take turns meet the same share.
        let every_third: Vec<bool> = first.iter().copied().step_by(3).collect();
        assert!((900..1_100).contains(&count(&every_third)), "{}", count(&every_third));
    }
}
