//! Which worker serves a request: power of two choices.
//!
//! Of two workers drawn at random the less loaded one is taken. Ejected workers, and those that failed this request already,
//! are passed over; if nobody is left in rotation, the ejected ones are tried all the same, so that a pool is never empty.

use std::{sync::Arc, time::Instant};

use crate::endpoint::Endpoint;

/// Random tries before the whole pool is looked through.
const TRIES: usize = 6;

/// Draws a number below its argument, which is never 0.
pub type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Picks a worker that is not among the failed ones.
pub fn pick(pool: &[Arc<Endpoint>], failed: &[Arc<Endpoint>], now: Instant, draw: Draw<'_>) -> Option<Arc<Endpoint>> {
    let fresh = |endpoint: &Arc<Endpoint>| !failed.iter().any(|other| Arc::ptr_eq(endpoint, other));
    let usable = |endpoint: &Arc<Endpoint>| fresh(endpoint) && endpoint.is_available(now);
    let (first, second) = match pool {
        [] => return None,
        [only] => return Some(only).filter(|only| fresh(only)).cloned(),
        _ => {
            let mut usable_ones = (0..TRIES)
                .map(|_| draw(pool.len()))
                .filter(|&index| usable(&pool[index]));
            match usable_ones.next() {
                Some(first) => (Some(first), usable_ones.find(|&index| index != first)),
                None => (None, None),
            }
        }
    };
    match (first, second) {
        (Some(first), Some(second)) => Some(less_loaded(&pool[first], &pool[second])),
        _ => {
            // Few of the pool are usable, or the draws had no luck: look at all.
            let mut all: Vec<_> = pool.iter().filter(|endpoint| usable(endpoint)).collect();
            if all.is_empty() {
                all = pool.iter().filter(|endpoint| fresh(endpoint)).collect();
            }
            match all.len() {
                0 => None,
                1 => Some(Arc::clone(all[0])),
                len => {
                    let first = draw(len);
                    let second = (first + 1 + draw(len - 1)) % len;
                    Some(less_loaded(all[first], all[second]))
                }
            }
        }
    }
}

fn less_loaded(first: &Arc<Endpoint>, second: &Arc<Endpoint>) -> Arc<Endpoint> {
    Arc::clone(if second.is_less_loaded_than(first) {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{endpoint::PoolOptions, metrics::Metrics};

    fn pool(size: usize) -> Vec<Arc<Endpoint>> {
        let options = PoolOptions {
            connections_max: 1,
            streams: 1,
            connect_timeout: Duration::from_secs(1),
        };
        (0..size)
            .map(|i| Arc::new(Endpoint::new(&format!("w{i}"), "http://127.0.0.1:9", options).unwrap()))
            .collect()
    }

    fn counts(pool: &[Arc<Endpoint>], failed: &[Arc<Endpoint>], now: Instant) -> Vec<u32> {
        let mut random = StdRng::seed_from_u64(1);
        let mut counts = vec![0; pool.len()];
        for _ in 0..3_000 {
            let picked = pick(pool, failed, now, &mut |n| random.random_range(0..n)).unwrap();
            counts[pool.iter().position(|endpoint| Arc::ptr_eq(endpoint, &picked)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn equals_share_alike_and_the_slow_one_gets_less() {
        let (pool, now) = (pool(3), Instant::now());
        assert!(
            counts(&pool, &[], now)
                .iter()
                .all(|&count| (900..1_100).contains(&count))
        );
        for (endpoint, millis) in pool.iter().zip([10, 10, 50]) {
            endpoint.observe_latency(Duration::from_millis(millis));
        }
        let counts = counts(&pool, &[], now);
        assert!(counts[2] < 150, "{counts:?}");
    }

    #[test]
    fn ejected_and_failed_ones_are_passed_over_but_a_pool_never_empties() {
        let (pool, now, metrics) = (pool(4), Instant::now(), Metrics::new(&mut Registry::default()));
        for endpoint in &pool[..2] {
            (0..3).for_each(|_| endpoint.failed(now, &metrics));
        }
        assert_eq!(counts(&pool, &[], now)[..2], [0, 0]);
        let counts_without = counts(&pool, &pool[2..3], now);
        assert_eq!(counts_without, [0, 0, 0, 3_000]);
        assert!(
            counts(&pool, &pool[2..], now)[..2].iter().all(|&count| count > 1_000),
            "ejected ones as a last resort"
        );
        assert!(pick(&pool, &pool, now, &mut |_| 0).is_none());
        assert!(pick(&[], &[], now, &mut |_| 0).is_none());
    }
}
