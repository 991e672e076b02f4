use proptest::prelude::*;
use twox_hash::XxHash64;

use super::*;

fn of(keys: impl IntoIterator<Item = u64>) -> Distinct {
    let mut distinct = Distinct::default();
    for key in keys {
        distinct.insert(XxHash64::oneshot(0, &key.to_le_bytes()));
    }
    distinct
}

#[test]
fn is_exact_below_the_bound() {
    assert_eq!(Distinct::default().estimate(), 0);
    let mut distinct = of(0..1000);
    distinct.merge(&of(500..1023));
    assert_eq!(distinct.estimate(), 1023);
}

#[test]
fn is_within_a_tenth_above_it() {
    for n in [1024, 1500, 5000, 100_000] {
        for start in [0, 1 << 32, 1 << 40] {
            let estimate = of(start..start + n).estimate();
            assert!(estimate * 10 >= n * 9 && estimate * 10 <= n * 11, "{estimate} of {n}");
        }
    }
}

#[test]
fn keeps_no_more_than_its_bound() {
    assert_eq!(of(0..5000).hashes().len(), HASHES_MAX);
    assert_eq!(
        Distinct::from_hashes((0..5000).rev().collect()).hashes().len(),
        HASHES_MAX
    );
}

#[test]
fn the_smallest_hashes_are_no_matter_of_the_arm() {
    // All keys of an arm lie in one interval of the hash that chose it.
    let mut candidate = Distinct::default();
    for key in 0..20_000u64 {
        let hash = XxHash64::oneshot(0, &key.to_le_bytes());
        if hash < u64::MAX / 2 {
            candidate.insert(hash);
        }
    }
    assert!((9_000..11_000).contains(&candidate.estimate()));
}

#[test]
fn new_keys_are_those_that_were_not_there() {
    assert_eq!(of(0..10).new_keys(&of(20..30), &of(5..22)), (5, 8));
    assert_eq!(of(0..10).new_keys(&of(20..30), &Distinct::default()), (10, 10));
    // Above the bound: the same part of each, so their ratio stays.
    let (first, second) = of(0..500).new_keys(&of(10_000..20_000), &of(0..100));
    assert!(900 < second && second <= 1024, "{second}");
    assert!((20..65).contains(&first), "{first} of 400");
}

proptest! {
    #[test]
    fn merging_is_counting_everything_at_once(
        a in 0..3000u64,
        b in 0..3000u64,
        overlap in 0..3000u64,
    ) {
        let (first, second) = (of(0..a), of(a.saturating_sub(overlap)..a + b));
        let mut both = first.clone();
        both.merge(&second);
        let mut reversed = second.clone();
        reversed.merge(&first);
        prop_assert_eq!(&both, &reversed);
        prop_assert_eq!(&both, &of(0..a + b));
        prop_assert_eq!(&Distinct::from_hashes(both.hashes().to_vec()), &both);
    }
}
