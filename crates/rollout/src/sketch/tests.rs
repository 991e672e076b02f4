use proptest::prelude::*;

use super::*;

fn of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    for &value in values {
        sketch.insert(value);
    }
    sketch
}

#[test]
fn odd_values_do_no_harm() {
    let sketch = of(&[f64::NAN, -1.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE]);
    assert_eq!((sketch.count(), sketch.zeros()), (5, 4));
    assert!(
        sketch
            .quantile(1.0)
            .is_some_and(|v| (v / SECONDS_MAX - 1.0).abs() <= 0.01)
    );
    assert_eq!(sketch.rank_value(0), None);
    assert_eq!(sketch.rank_value(6), None);
    assert_eq!(Sketch::default().quantile(0.5), None);
    let hostile = Sketch::from_parts(u64::MAX, [(i32::MIN, u64::MAX), (i32::MAX, 0)]);
    assert_eq!(hostile.count(), u64::MAX);
    assert_eq!(hostile.buckets().count(), 1);
}

#[test]
fn has_at_most_2048_buckets() {
    let all = Sketch::from_parts(0, (-5000..5000).map(|bucket| (bucket, 1)));
    assert_eq!(all.count(), 10_000);
    assert!(all.buckets().count() <= 2048);
}

proptest! {
    #[test]
    fn each_rank_is_within_the_relative_error(
        mut values in prop::collection::vec((-20.0..13.0f64).prop_map(f64::exp), 1..200),
    ) {
        let sketch = of(&values);
        values.sort_by(f64::total_cmp);
        for (rank, value) in (1..).zip(&values) {
            let answer = sketch.rank_value(rank).unwrap_or(f64::NAN);
            prop_assert!((answer / value - 1.0).abs() <= RELATIVE_ERROR + 1e-9, "{answer} {value}");
        }
        let median = values[values.len().div_ceil(2) - 1];
        let answer = sketch.quantile(0.5).unwrap_or(f64::NAN);
        prop_assert!((answer / median - 1.0).abs() <= RELATIVE_ERROR + 1e-9);
    }

    #[test]
    fn merging_is_counting_everything_at_once(
        a in prop::collection::vec(0.0..1e7f64, 0..100),
        b in prop::collection::vec(0.0..10.0f64, 0..100),
        c in prop::collection::vec(0.0..1e-8f64, 0..100),
    ) {
        let mut left = of(&a);
        left.merge(&of(&b));
        left.merge(&of(&c));
        let mut right = of(&c);
        right.merge(&of(&b));
        let mut outer = of(&a);
        outer.merge(&right);
        prop_assert_eq!(&left, &outer);
        prop_assert_eq!(&left, &of(&[a, b, c].concat()));
        prop_assert_eq!(&Sketch::from_parts(left.zeros(), left.buckets()), &left);
    }
}

#[test]
fn what_came_since_is_the_difference() {
    let mut earlier = Sketch::default();
    [0.0, 0.1, 0.2, 0.2]
        .into_iter()
        .for_each(|seconds| earlier.insert(seconds));
    let mut now = earlier.clone();
    [0.2, 0.5].into_iter().for_each(|seconds| now.insert(seconds));
    let mut newer = Sketch::default();
    [0.2, 0.5].into_iter().for_each(|seconds| newer.insert(seconds));
    assert_eq!(now.since(&earlier), Some(newer));
    assert_eq!(now.since(&Sketch::default()), Some(now.clone()));
    assert_eq!(earlier.since(&now), None);
}
