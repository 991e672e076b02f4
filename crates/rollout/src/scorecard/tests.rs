use proptest::prelude::*;

use super::*;

#[test]
fn moments() {
    let mut moments = Moments::default();
    assert_eq!((moments.mean(), moments.variance()), (None, None));
    for value in [1.0, 2.0, 4.0, f64::NAN, f64::INFINITY] {
        moments.insert(value);
    }
    assert_eq!(moments.count, 3);
    assert!((moments.mean().unwrap() - 7.0 / 3.0).abs() < 1e-12);
    assert!((moments.variance().unwrap() - 7.0 / 3.0).abs() < 1e-12);
}

#[test]
fn pairs_of_labels() {
    let mut pairs = ClassPairs::default();
    assert_eq!(
        (pairs.pairs(), pairs.kappa(), pairs.jensen_shannon_distance()),
        (0, None, None)
    );
    for (stable, candidate, times) in [(0, 0, 20), (0, 1, 5), (1, 0, 10), (1, 1, 15)] {
        for _ in 0..times {
            pairs.insert(stable, candidate, 2);
        }
    }
    pairs.insert(2, 0, 2);
    pairs.insert(0, 0, 3);
    pairs.insert(0, 0, usize::MAX);
    assert_eq!((pairs.pairs(), pairs.agreements()), (50, 35));
    assert_eq!(pairs.row(1), (25, 15));
    assert_eq!(pairs.flips(), [((1, 0), 10), ((0, 1), 5)]);
    // The worked example of Wikipedia's article on kappa.
    assert!((pairs.kappa().unwrap() - 0.4).abs() < 1e-12);
}

#[test]
fn swapped_labels_are_as_far_apart_as_can_be() {
    let mut pairs = ClassPairs::default();
    pairs.insert(0, 1, 2);
    assert_eq!(pairs.jensen_shannon_distance(), Some(1.0));
    assert_eq!(pairs.kappa(), Some(0.0));
}

#[test]
fn a_table_that_is_no_square_has_no_classes() {
    let pairs = ClassPairs {
        confusion: vec![1, 2, 3],
        ..ClassPairs::default()
    };
    assert_eq!((pairs.classes(), pairs.pairs(), pairs.flips().len()), (0, 0, 0));
}

#[test]
fn a_caller_counts_once_however_often_it_errs() {
    let mut card = ArmCard {
        errors: 3,
        ..ArmCard::default()
    };
    for hash in [7, 7, 9] {
        card.erring_keys.insert(hash);
    }
    let again = card.clone();
    card.merge(&again);
    assert_eq!(card.error_events(), 6 + 2);
}

prop_compose! {
    // Whole values: sums of such floats are exact in any order.
    fn moments_of()(values in prop::collection::vec(-100..100i32, 0..5)) -> Moments {
        let mut moments = Moments::default();
        for value in values {
            moments.insert(f64::from(value));
        }
        moments
    }
}

prop_compose! {
    fn arm()(
        counts in [0..100u64, 0..100, 0..100],
        keys in prop::collection::vec(0..20u64, 0..9),
        seconds in prop::collection::vec(0.0..9.0f64, 0..9),
        classes in prop::collection::vec(0..9u64, 0..4),
        confidence in moments_of(),
        tokens in moments_of(),
    ) -> ArmCard {
        let mut card = ArmCard {
            requests: counts[0],
            errors: counts[1],
            fallbacks: counts[2],
            erring_keys: Distinct::from_hashes(keys),
            predictions: Predictions { classes, confidence, tokens },
            ..ArmCard::default()
        };
        for second in seconds {
            card.latency.insert(second);
        }
        card
    }
}

prop_compose! {
    fn shadow()(
        counts in [0..100u64, 0..100, 0..100, 0..100, 0..100, 0..100],
        arms in [arm(), arm()],
        moments in [moments_of(), moments_of(), moments_of(), moments_of()],
        labels in prop::collection::vec((0..3usize, 0..3usize), 0..9),
        noise in [0..100u64, 0..100, 0..100, 0..100],
    ) -> ShadowCard {
        let mut classes = ClassPairs {
            probability_difference: moments[0],
            confidence_difference: moments[1],
            noise_triples: noise[0],
            only_candidate: noise[1],
            only_noise: noise[2],
            ..ClassPairs::default()
        };
        for (stable, candidate) in labels {
            classes.insert(stable, candidate, 3);
        }
        ShadowCard {
            chosen: counts[0],
            too_large: counts[1],
            no_place: counts[2],
            busy: counts[3],
            candidate_errors: counts[4],
            pairs: counts[5],
            stable_latency: arms[0].latency.clone(),
            candidate_latency: arms[1].latency.clone(),
            classes,
            texts: TextPairs {
                log_length_ratio: moments[2],
                grounding_difference: moments[3],
                same_finish_reason: noise[3],
            },
        }
    }
}

macro_rules! merges {
    ($a:expr, $b:expr, $c:expr) => {{
        let (a, b, c) = ($a, $b, $c);
        let (mut left, mut right, mut swapped) = (a.clone(), b.clone(), b.clone());
        left.merge(&b);
        left.merge(&c);
        right.merge(&c);
        let mut outer = a.clone();
        outer.merge(&right);
        prop_assert_eq!(&left, &outer);
        swapped.merge(&a);
        let mut both = a.clone();
        both.merge(&b);
        prop_assert_eq!(&both, &swapped);
    }};
}

proptest! {
    #[test]
    fn merging_arms_is_commutative_and_associative(a in arm(), b in arm(), c in arm()) {
        merges!(a, b, c);
    }

    #[test]
    fn merging_shadows_is_commutative_and_associative(a in shadow(), b in shadow(), c in shadow()) {
        merges!(a, b, c);
    }

    #[test]
    fn merging_labels_is_commutative_and_associative(counts in prop::collection::vec(0..u64::MAX, 24)) {
        let card = |at: usize| LabelCard {
            both_right: counts[at],
            only_stable_right: counts[at + 1],
            only_candidate_right: counts[at + 2],
            both_wrong: counts[at + 3],
            stable_right: counts[at + 4],
            stable_wrong: counts[at + 5],
            candidate_right: counts[at + 6],
            candidate_wrong: counts[at + 7],
        };
        merges!(card(0), card(8), card(16));
    }
}

#[test]
fn marks_part_a_slice_at_each_doubling() {
    let live = |epoch, answers: u32| {
        let mut live = Slice {
            epoch,
            ..Slice::default()
        };
        for answer in 0..answers {
            live.candidate.latency.insert(f64::from(1 + answer / 200));
            live.stable.latency.insert(1.0);
        }
        live
    };
    assert_eq!(LatencyMark::of(&live(3, 199), None), None);
    let first = LatencyMark::of(&live(3, 200), None).unwrap();
    assert_eq!(LatencyMark::of(&live(3, 399), Some(first.clone())), Some(first.clone()));
    let recent = first.recent(&live(3, 300)).unwrap();
    assert_eq!((recent.candidate.count(), recent.marks), (100, 1));
    assert!(
        recent.candidate.quantile(0.5) > Some(1.9),
        "the slow ones are the new ones"
    );
    let second = LatencyMark::of(&live(3, 400), Some(first.clone())).unwrap();
    assert_eq!(
        second
            .recent(&live(3, 401))
            .map(|recent| (recent.candidate.count(), recent.marks)),
        Some((1, 2))
    );
    assert_eq!(first.recent(&live(4, 300)), None, "another route");
    assert_eq!(
        LatencyMark::of(&live(3, 150), Some(first)),
        None,
        "a router's counts are gone"
    );
}
