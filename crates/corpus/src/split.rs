//! Stratified, seeded split in which no duplicate leaks.
//!
//! Invariants: texts with one fingerprint go into one split; the parts of each class are within half the largest group of
//! duplicates of their exact size; the outcome depends on the examples, the fractions and the seed only.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::{Error, Example, Split};

/// Shares of the whole that are held out; the rest is for training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// Share of the validation part.
    pub validation: f64,
    /// Share of the test part.
    pub test: f64,
}

/// The parts of a data set.
#[derive(Debug, Default)]
pub struct Splits {
    /// To learn from.
    pub train: Vec<Example>,
    /// To choose among models and settings.
    pub validation: Vec<Example>,
    /// To measure the chosen one.
    pub test: Vec<Example>,
    /// What was left out.
    pub counts: SplitCounts,
}

/// What splitting found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SplitCounts {
    /// Examples beyond the first of their text; they stay, in one split.
    pub duplicates: usize,
    /// Examples left out because the same text has different labels.
    pub conflicting: usize,
    /// Examples left out of a split because their text is in a later one (train, validation, test).
    pub leaking: usize,
}

/// Splits examples. If the data set says what each is for, that holds, but texts that also occur in a later split (of train,
/// validation, test) are left out of the earlier one. If it says so without a validation part, that is taken from train.
///
/// # Errors
/// If the fractions leave nothing to train on, or only some of the examples say what they are for.
pub fn split(examples: Vec<Example>, fractions: Fractions, seed: u64) -> Result<Splits, Error> {
    let Fractions { validation, test } = fractions;
    if !(validation >= 0.0 && test >= 0.0 && validation + test < 1.0) {
        return Err(Error::Invalid(format!(
            "held-out shares must not be negative and must leave something to train on: validation {validation}, test {test}"
        )));
    }
    let mut splits = Splits::default();
    let groups = group(examples, &mut splits.counts);
    let given = groups
        .iter()
        .flatten()
        .filter(|example| example.split.is_some())
        .count();
    if given == 0 {
        draw(groups, fractions, seed, &mut splits);
    } else if given == groups.iter().map(Vec::len).sum::<usize>() {
        let mut train = Vec::new();
        for mut group in groups {
            let place = group.iter().filter_map(|example| example.split).max();
            let before = group.len();
            group.retain(|example| example.split == place);
            splits.counts.leaking += before - group.len();
            match place {
                Some(Split::Validation) => splits.validation.extend(group),
                Some(Split::Test) => splits.test.extend(group),
                _ => train.push(group),
            }
        }
        let validation = if splits.validation.is_empty() { validation } else { 0.0 };
        draw(train, Fractions { validation, test: 0.0 }, seed, &mut splits);
    } else {
        return Err(Error::Invalid("only some rows say which split they are for".into()));
    }
    Ok(splits)
}

/// The first examples of each class, in the order that they have, so that the classes keep their shares: the quotas are rounded
/// by largest remainder, classes that would be left without any first.
#[must_use]
pub fn sample(examples: Vec<Example>, size: usize) -> Vec<Example> {
    if size >= examples.len() {
        return examples;
    }
    let mut counts = std::collections::BTreeMap::<usize, usize>::new();
    for example in &examples {
        *counts.entry(example.label).or_default() += 1;
    }
    let all = examples.len();
    // Parts of `all`: whole numbers, so that equal remainders are equal.
    let mut quotas: Vec<(usize, usize, usize)> = counts
        .iter()
        .map(|(&label, &count)| (label, count * size / all, count * size % all))
        .collect();
    let open = size - quotas.iter().map(|quota| quota.1).sum::<usize>();
    quotas.sort_by(|a, b| (b.1 == 0, b.2, a.0).cmp(&(a.1 == 0, a.2, b.0)));
    for quota in quotas.iter_mut().take(open) {
        quota.1 += 1;
    }
    let mut left: HashMap<usize, usize> = quotas.into_iter().map(|(label, quota, _)| (label, quota)).collect();
    examples
        .into_iter()
        .filter(|example| match left.get_mut(&example.label) {
            Some(quota) if *quota > 0 => {
                *quota -= 1;
                true
            }
            _ => false,
        })
        .collect()
}

/// Groups of duplicates in the order of their first example, without the contradictory ones.
fn group(examples: Vec<Example>, counts: &mut SplitCounts) -> Vec<Vec<Example>> {
    let mut index = HashMap::new();
    let mut groups: Vec<Vec<Example>> = Vec::new();
    for example in examples {
        let place = *index.entry(example.fingerprint).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(example),
            None => groups.push(vec![example]),
        }
    }
    groups.retain(|group| {
        let agree = group.windows(2).all(|pair| pair[0].label == pair[1].label);
        if agree {
            counts.duplicates += group.len() - 1;
        } else {
            counts.conflicting += group.len();
        }
        agree
    });
    groups
}

fn draw(groups: Vec<Vec<Example>>, fractions: Fractions, seed: u64, splits: &mut Splits) {
    let mut by_class: std::collections::BTreeMap<usize, Vec<Vec<Example>>> = std::collections::BTreeMap::new();
    for group in groups {
        by_class.entry(group[0].label).or_default().push(group);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut train = Vec::new();
    for mut groups in by_class.into_values() {
        groups.shuffle(&mut random);
        let total = groups.iter().map(Vec::len).sum::<usize>() as f64;
        let (test_end, validation_end) = (total * fractions.test, total * (fractions.test + fractions.validation));
        let mut before = 0;
        for group in groups {
            let middle = before as f64 + group.len() as f64 / 2.0;
            before += group.len();
            if middle < test_end {
                splits.test.extend(group);
            } else if middle < validation_end {
                splits.validation.extend(group);
            } else {
                train.extend(group);
            }
        }
    }
    for part in [&mut train, &mut splits.validation, &mut splits.test] {
        part.shuffle(&mut random);
    }
    splits.train.extend(train);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn example(fingerprint: u64, label: usize, split: Option<Split>) -> Example {
        Example {
            text: format!("text {fingerprint}"),
            label,
            fingerprint,
            split,
            line: 0,
            kept: Vec::new(),
        }
    }

    fn keys(part: &[Example]) -> HashSet<u64> {
        part.iter().map(|example| example.fingerprint).collect()
    }

    const TENTHS: Fractions = Fractions {
        validation: 0.1,
        test: 0.2,
    };

    proptest! {
        #[test]
        fn no_text_in_two_splits_and_classes_in_proportion(
            rows in prop::collection::vec((0_u64..400, 0_usize..3), 1..600),
            seed: u64,
        ) {
            // The label follows from the text, so that nothing conflicts.
            let examples: Vec<_> = rows.iter().map(|(key, _)| example(*key, usize::try_from(key % 3).unwrap(), None)).collect();
            let splits = split(examples.clone(), TENTHS, seed).unwrap();
            let parts = [&splits.train, &splits.validation, &splits.test];
            prop_assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), examples.len());
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                prop_assert!(keys(parts[a]).is_disjoint(&keys(parts[b])));
            }
            for label in 0..3 {
                let of = |part: &[Example]| part.iter().filter(|e| e.label == label).count() as f64;
                let group = examples.iter().filter(|e| e.label == label)
                    .map(|e| examples.iter().filter(|o| o.fingerprint == e.fingerprint).count()).max().unwrap_or(0) as f64;
                let total = of(&examples);
                prop_assert!((of(&splits.test) - total * TENTHS.test).abs() <= group / 2.0 + 1e-9);
                prop_assert!((of(&splits.validation) - total * TENTHS.validation).abs() <= group + 1e-9);
            }
        }

        #[test]
        fn same_seed_same_split(seed: u64) {
            let examples: Vec<_> = (0..100).map(|key| example(key, usize::try_from(key % 2).unwrap(), None)).collect();
            let [a, b] = [(); 2].map(|()| split(examples.clone(), TENTHS, seed).unwrap());
            let other = split(examples, TENTHS, seed ^ 1).unwrap();
            prop_assert_eq!(&a.train, &b.train);
            prop_assert_eq!((&a.validation, &a.test), (&b.validation, &b.test));
            prop_assert_ne!(&a.train, &other.train);
        }
    }

    #[test]
    fn a_sample_keeps_the_shares_of_the_classes() {
        let examples: Vec<_> = (0..1000)
            .map(|key| example(key, usize::from(key % 10 == 0), None))
            .collect();
        let some = sample(examples.clone(), 55);
        assert_eq!(some.len(), 55);
        let rare = some.iter().filter(|example| example.label == 1).count();
        assert!((5..=6).contains(&rare), "{rare}");
        assert!(some.windows(2).all(|pair| pair[0].fingerprint < pair[1].fingerprint));
        assert_eq!(sample(examples.clone(), 2).iter().map(|e| e.label).sum::<usize>(), 1);
        assert_eq!(sample(examples.clone(), 5000), examples);
    }

    #[test]
    fn contradictory_texts_are_left_out() {
        let splits = split(
            vec![
                example(1, 0, None),
                example(1, 1, None),
                example(2, 0, None),
                example(2, 0, None),
            ],
            TENTHS,
            1,
        );
        let splits = splits.unwrap();
        assert_eq!(
            splits.counts,
            SplitCounts {
                duplicates: 1,
                conflicting: 2,
                leaking: 0
            }
        );
        assert_eq!(splits.train.len() + splits.validation.len() + splits.test.len(), 2);
    }

    #[test]
    fn given_splits_hold_but_do_not_leak() {
        use Split::{Test, Train, Validation};
        let rows = [
            (1, Train),
            (1, Test),
            (2, Train),
            (3, Validation),
            (3, Train),
            (4, Test),
        ];
        let examples = rows.map(|(key, split)| example(key, 0, Some(split))).to_vec();
        let splits = split(examples, TENTHS, 1).unwrap();
        assert_eq!(keys(&splits.train), [2].into());
        assert_eq!(keys(&splits.validation), [3].into());
        assert_eq!(keys(&splits.test), [1, 4].into());
        assert_eq!(splits.counts.leaking, 2);
    }

    #[test]
    fn a_validation_part_is_taken_from_train_where_none_is_given() {
        let examples =
            (0..100)
                .map(|key| example(key, 0, Some(Split::Train)))
                .chain([example(100, 0, Some(Split::Test))]);
        let splits = split(examples.collect(), TENTHS, 1).unwrap();
        assert_eq!(
            (splits.train.len(), splits.validation.len(), splits.test.len()),
            (90, 10, 1)
        );
    }

    #[test]
    fn impossible_wishes_are_refused() {
        assert!(
            split(
                vec![example(1, 0, None)],
                Fractions {
                    validation: 0.5,
                    test: 0.5
                },
                1
            )
            .is_err()
        );
        assert!(
            split(
                vec![example(1, 0, None)],
                Fractions {
                    validation: f64::NAN,
                    test: 0.1
                },
                1
            )
            .is_err()
        );
        assert!(split(vec![example(1, 0, None), example(2, 0, Some(Split::Test))], TENTHS, 1).is_err());
    }
}
