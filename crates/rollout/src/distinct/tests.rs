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
