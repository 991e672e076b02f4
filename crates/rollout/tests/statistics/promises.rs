//! The promise of an e-process, exactly: whatever rule stops it, even one that sees everything and wants the most, its
//! expected value is at most 1 while the null hypothesis holds. The best rule's value is found backwards from the end
//! (Snell's envelope).

use proptest::prelude::*;
use understudy_rollout::stats::{
    quantile::ranks,
    rate,
    ratio::{self, Events},
    shares,
};

use crate::simulated::Draws;

/// The most that any stopping rule can expect from `e(x, n)`, x of n with probability q each, within `length` draws.
fn best(length: u64, q: f64, e: impl Fn(u64, u64) -> f64) -> f64 {
    let mut values: Vec<f64> = (0..=length).map(|x| e(x, length)).collect();
    for n in (0..length).rev() {
        values = (0..=n)
            .map(|x| {
                let at = usize::try_from(x).unwrap();
                e(x, n).max(q * values[at + 1] + (1.0 - q) * values[at])
            })
            .collect();
    }
    values[0]
}

fn one(weight: f64, x: u64, n: u64) -> [Events; 1] {
    [Events {
        weight,
        candidate: x,
        stable: n - x,
    }]
}

const MOST: f64 = 1.0 + 1e-9;

#[test]
fn no_rule_profits_from_likelihood_ratios() {
    for weight in [0.01, 0.05, 0.25, 0.5] {
        for ratio in [1.0, 0.7] {
            let q = ratio::share(ratio, weight);
            let most = best(60, q, |x, n| ratio::ln_worse(&one(weight, x, n)).exp());
            assert!(most <= MOST, "{weight}, {ratio}: {most}");
        }
        for ratio in [1.5, 2.5] {
            let q = ratio::share(ratio, weight);
            let most = best(60, q, |x, n| ratio::ln_better(&one(weight, x, n), 1.5).exp());
            assert!(most <= MOST, "{weight}, {ratio}: {most}");
        }
    }
}

#[test]
fn no_rule_profits_from_bets_with_a_horizon() {
    // Horizons of 78 and 104 events: well before, at, and after.
    for weight in [0.5, 0.25] {
        for ratio in [1.0, 0.8] {
            let q = ratio::share(ratio, weight);
            let most = best(130, q, |x, n| ratio::ln_horizon_bet(&one(weight, x, n), 26.0).exp());
            assert!(most <= MOST, "{weight}, {ratio}: {most}");
        }
    }
    // The other way round it does profit, or the test above could not fail.
    let q = ratio::share(2.0, 0.5);
    assert!(best(80, q, |x, n| ratio::ln_horizon_bet(&one(0.5, x, n), 26.0).exp()) > 10.0);
}

#[test]
fn no_rule_profits_from_ending_a_slice_when_it_likes() {
    let (first, second) = (0.25, 0.5);
    let after = |x: u64, n: u64| {
        best(40, second, |y, m| {
            let slices = [one(first, x, n)[0], one(second, y, m)[0]];
            ratio::ln_horizon_bet(&slices, 5.0).exp()
        })
    };
    let most = best(12, first, after);
    assert!(most <= MOST, "{most}");
    assert!(most >= 1.0 - 1e-9, "nothing to win is no bet: {most}");
}

#[test]
fn no_rule_profits_from_rates_and_shares() {
    for null in [0.005, 0.1, 0.25, 0.5, 0.9] {
        let above = best(80, null, |x, n| rate::ln_above(x, n, null).exp());
        let below = best(80, null, |x, n| rate::ln_below(x, n, null).exp());
        let shares = best(80, null, |x, n| shares::ln_bayes_factor(x, n, null, null, 10.0).exp());
        assert!(
            above <= MOST && below <= MOST && shares <= MOST,
            "{null}: {above} {below} {shares}"
        );
        assert!(best(80, null / 2.0, |x, n| rate::ln_above(x, n, null).exp()) <= MOST);
        let higher = null.midpoint(1.0);
        assert!(best(80, higher, |x, n| rate::ln_below(x, n, null).exp()) <= MOST);
    }
    assert!(best(80, 0.5, |x, n| rate::ln_more_often(x, n - x).exp()) <= MOST);
    assert!(best(80, 0.4, |x, n| rate::ln_more_often(x, n - x).exp()) <= MOST);
}

#[test]
fn quantiles_leave_their_bounds_no_more_often_than_declared() {
    let (runs, alpha) = (500, 0.05);
    for p in [0.5, 0.95] {
        let mut draws = Draws::of(17);
        let mut left = 0;
        for _ in 0..runs {
            let mut below = 0;
            let mut is_in = true;
            for n in 1..=1_000_u64 {
                below += u64::from(draws.chance(p));
                // Dense at first, then every tenth: leaving between two looks would only count for us.
                if n < 200 || n % 10 == 0 {
                    let ranks = ranks(p, n, alpha);
                    // The lower value is the quantile's or less if that many values are; the upper one is not.
                    is_in &= ranks.lower.is_none_or(|rank| below >= rank);
                    is_in &= ranks.upper.is_none_or(|rank| below < rank);
                }
            }
            left += u32::from(!is_in);
        }
        let share = f64::from(left) / f64::from(runs);
        assert!(share <= alpha, "{p}: {share}");
        assert!(share >= alpha / 25.0, "{p}: wider than need be, {share}");
    }
}

proptest! {
    #[test]
    fn counts_of_any_size_do_no_harm(
        weight in 0.0..=1.0_f64,
        counts in prop::collection::vec(prop::sample::select(vec![0, 1, 2, 40, 100_000, u64::MAX / 2, u64::MAX]), 4),
        null in 0.001..0.999_f64,
        target in 1.5..1e6_f64,
    ) {
        let slices = [one(weight, counts[0] / 2, counts[0])[0], one(0.05, counts[1] / 2, counts[1])[0]];
        let (k, n) = (counts[2], counts[3]);
        for ln in [
            ratio::ln_worse(&slices),
            ratio::ln_better(&slices, 1.5),
            ratio::ln_horizon_bet(&slices, target),
            rate::ln_above(k, n, null),
            rate::ln_below(k, n, null),
            rate::ln_more_often(k, n),
        ] {
            prop_assert!(!ln.is_nan());
        }
        prop_assert!((0.0..=1.0).contains(&rate::upper_bound(k, n, 0.01)));
        let ranks = ranks(null, n, 0.001);
        prop_assert!(ranks.lower.is_none_or(|rank| 1 <= rank && rank <= n));
        prop_assert!(ranks.upper.is_none_or(|rank| 1 <= rank && rank <= n));
    }
}
