use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;

use super::*;

fn splitter(weights: &[u32], seed: u64) -> Splitter {
    Splitter::new(weights, seed).unwrap()
}

/// Largest distance from the exact share, in millionths of a request, over every prefix and arm.
fn worst_distance(weights: &[u32], seed: u64, from: u64, n: u64) -> u64 {
    let split = splitter(weights, seed);
    let mut counts = split.counts(from);
    let mut worst = 0;
    for i in from..from + n {
        counts[split.arm_of(i)] += 1;
        for (count, &weight) in counts.iter().zip(weights) {
            let distance = (u128::from(*count) * 1_000_000).abs_diff(u128::from(i + 1) * u128::from(weight));
            worst = worst.max(u64::try_from(distance).unwrap());
        }
    }
    assert_eq!(counts, split.counts(from + n), "the closed form counts as the draws do");
    worst
}

const WEIGHTS: [u32; 13] = [
    0, 1, 3, 999, 50_000, 100_000, 333_333, 375_000, 400_000, 500_000, 500_001, 999_999, 1_000_000,
];

#[test]
fn two_arms_stay_within_one_request_at_every_prefix() {
    for weight in WEIGHTS {
        for seed in 0..5 {
            let worst = worst_distance(&[1_000_000 - weight, weight], seed, 0, 10_000);
            assert!(
                worst < 1_000_000,
                "weight {weight}, seed {seed}: off by {worst} millionths"
            );
        }
    }
}

#[test]
fn far_prefixes_are_as_exact_and_rare_arms_come() {
    for from in [999_000, 2_000_000_000_000, u64::from(u32::MAX) << 20] {
        for weight in WEIGHTS {
            assert!(
                worst_distance(&[1_000_000 - weight, weight], 7, from, 3_000) < 1_000_000,
                "{weight} at {from}"
            );
        }
    }
    assert_eq!(splitter(&[999_999, 1], 3).counts(5_000_000), [4_999_995, 5]);
    assert_eq!(splitter(&[0, 1_000_000], 3).counts(10), [0, 10]);
}

proptest! {
    #[test]
    fn any_two_weights(weight in 0..=PPM, seed: u64, from in 0..10_000_000_u64) {
        prop_assert!(worst_distance(&[PPM - weight, weight], seed, from, 1_000) < 1_000_000);
    }

    #[test]
    fn many_arms_stay_within_the_depth_of_the_tree(
        shares in prop::collection::vec(0..1_000_u64, 1..12), seed: u64, from in 0..1_000_000_u64,
    ) {
        let sum: u64 = shares.iter().sum::<u64>().max(1);
        let mut weights: Vec<u32> =
            shares.iter().map(|s| u32::try_from(s * u64::from(PPM) / sum).unwrap()).collect();
        weights[0] += PPM - weights.iter().sum::<u32>();
        let depth = u64::from(usize::BITS - (weights.len() - 1).leading_zeros());
        prop_assert!(worst_distance(&weights, seed, from, 500) <= depth * 1_000_000);
    }
}

#[test]
fn every_single_request_meets_the_arm_with_its_share() {
    // Also those on borders: over many seeds, each of the first requests goes to the canary as often as it should.
    let seeds = 20_000_u32;
    for weight in [300_000, 375_000, 400_000, 450_000, 499_999, 640_000] {
        let mut hits = [0_u32; 14];
        for seed in 0..seeds {
            let split = splitter(&[PPM - weight, weight], u64::from(seed));
            for (n, hits) in (0..).zip(&mut hits) {
                *hits += u32::from(split.arm_of(n) == 1);
            }
        }
        let share = f64::from(weight) / 1e6;
        let allowed = 4.5 * (share * (1.0 - share) / f64::from(seeds)).sqrt();
        for (n, hits) in hits.iter().enumerate() {
            let found = f64::from(*hits) / f64::from(seeds);
            assert!((found - share).abs() < allowed, "weight {weight}, request {n}: {found}");
        }
    }
}

#[test]
fn traffic_with_a_rhythm_finds_the_same_share_in_each_kind() {
    for weight in [100_000, 200_000, 375_000, 500_000, 900_000] {
        for kinds in [2_u64, 3, 4, 5, 8, 10] {
            let split = splitter(&[PPM - weight, weight], 11);
            let n = 200_000 / kinds * kinds;
            let mut hits = vec![0_u32; usize::try_from(kinds).unwrap()];
            for i in 0..n {
                hits[usize::try_from(i % kinds).unwrap()] += u32::from(split.arm_of(i) == 1);
            }
            let (share, each) = (f64::from(weight) / 1e6, f64::from(u32::try_from(n / kinds).unwrap()));
            let allowed = 4.5 * (share * (1.0 - share) / each).sqrt();
            for hits in &hits {
                let found = f64::from(*hits) / each;
                assert!(
                    (found - share).abs() < allowed,
                    "weight {weight}, {kinds} kinds: {hits:?} {found}"
                );
            }
        }
    }
}

#[test]
fn threads_together_draw_each_number_once() {
    let split = Arc::new(splitter(&[700_000, 290_000, 10_000], 5));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let split = Arc::clone(&split);
            std::thread::spawn(move || {
                (0..12_500).fold([0_u64; 3], |mut counts, _| {
                    counts[split.draw()] += 1;
                    counts
                })
            })
        })
        .collect();
    let mut counts = [0; 3];
    for thread in threads {
        for (sum, count) in counts.iter_mut().zip(thread.join().unwrap()) {
            *sum += count;
        }
    }
    assert_eq!(split.drawn(), 100_000);
    assert_eq!(counts.to_vec(), split.counts(100_000));
}

#[test]
fn weights_must_sum_to_a_million() {
    assert_eq!(Splitter::new(&[], 0).unwrap_err(), BadSum(0));
    assert_eq!(Splitter::new(&[999_999], 0).unwrap_err(), BadSum(999_999));
    assert_eq!(
        Splitter::new(&[u32::MAX, u32::MAX], 0).unwrap_err(),
        BadSum(8_589_934_590)
    );
}

#[test]
fn a_growing_canary_takes_keys_from_stable_only() {
    let keys: Vec<Position> = (0..20_000)
        .map(|i| Position::of_key("m", format!("user-{i}").as_bytes()))
        .collect();
    let mut before = HashSet::new();
    for weight in [0, 1, 10_000, 50_000, 250_000, 500_000, 990_000, 1_000_000] {
        let split = splitter(&[PPM - weight, weight], 1);
        let now: HashSet<usize> = (0..keys.len()).filter(|&i| split.arm_at(keys[i]) == 1).collect();
        assert!(before.is_subset(&now), "at {weight} a key went back to stable");
        let wanted = 0.02 * f64::from(weight);
        assert!(
            (f64::from(u32::try_from(now.len()).unwrap()) - wanted).abs() < 300.0,
            "{} at {weight}",
            now.len()
        );
        before = now;
    }
    assert_ne!(
        Position::of_key("m", b"a"),
        Position::of_key("n", b"a"),
        "models are unrelated"
    );
    assert_eq!(
        Position::of_key("sentiment", b"user-1"),
        Position(306_793),
        "the mapping is a contract between routers"
    );
}

#[test]
fn draws_are_decimal_fractions() {
    for (text, ppm) in [
        ("0", 0),
        ("0.25", 250_000),
        ("0.9999999", 999_999),
        ("0.", 0),
        ("00.1", 100_000),
    ] {
        assert_eq!(Position::parse(text), Some(Position(ppm)), "{text}");
    }
    for bad in ["", "1", "1.0", "-0.1", ".5", "0,5", "0.5e1", "NaN", " 0.1", "0.1.2"] {
        assert_eq!(Position::parse(bad), None, "{bad}");
    }
    let split = splitter(&[600_000, 100_000, 300_000], 0);
    let arm = |text| split.arm_at(Position::parse(text).unwrap());
    assert_eq!(
        [
            arm("0"),
            arm("0.099999"),
            arm("0.1"),
            arm("0.399999"),
            arm("0.4"),
            arm("0.999999")
        ],
        [1, 1, 2, 2, 0, 0]
    );
}
