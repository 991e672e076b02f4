use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;

fn text(group: usize, tokens: usize, item: usize) -> Waiting<usize> {
    Waiting {
        group,
        tokens,
        deadline: None,
        item,
    }
}

fn filled(texts: &[(usize, usize)]) -> Queue<usize> {
    let mut queue = Queue::default();
    for (item, (group, tokens)) in texts.iter().enumerate() {
        queue.push(text(*group, *tokens, item));
    }
    queue
}

fn packed(tokens_max: usize) -> Budget {
    Budget {
        tokens_max,
        padded: false,
    }
}

fn items(batch: &[Waiting<usize>]) -> Vec<usize> {
    batch.iter().map(|text| text.item).collect()
}

#[test]
fn takes_the_oldest_and_what_is_nearest_in_length() {
    let mut queue = filled(&[(1, 100), (1, 500), (1, 90), (1, 300), (1, 101)]);
    assert_eq!(items(&queue.take(packed(300), 1, Instant::now()).batch), [0, 4, 2]);
    assert_eq!((queue.len(), queue.tokens()), (2, 800));
    assert_eq!(
        items(&queue.take(packed(300), 1, Instant::now()).batch),
        [1],
        "longer than the budget, so alone"
    );
    assert_eq!(items(&queue.take(packed(300), 1, Instant::now()).batch), [3]);
    assert!(queue.take(packed(300), 1, Instant::now()).batch.is_empty());
    assert_eq!(queue.tokens(), 0);
}

#[test]
fn padding_counts_where_the_engine_pads() {
    let budget = Budget {
        tokens_max: 300,
        padded: true,
    };
    let mut queue = filled(&[(1, 100), (1, 5), (1, 90), (1, 110), (1, 5)]);
    assert_eq!(
        items(&queue.take(budget, 1, Instant::now()).batch),
        [0, 2, 1],
        "three rows of 100"
    );
    assert_eq!(items(&queue.take(budget, 1, Instant::now()).batch), [3, 4]);
}

#[test]
fn versions_are_not_mixed() {
    let mut queue = filled(&[(1, 10), (2, 10), (1, 10), (2, 10)]);
    assert_eq!(items(&queue.take(packed(1000), 1, Instant::now()).batch), [0, 2]);
    assert_eq!(items(&queue.take(packed(1000), 1, Instant::now()).batch), [1, 3]);
}

#[test]
fn a_burst_is_shared_by_idle_engines() {
    let mut queue = filled(&[(1, 100); 8]);
    assert_eq!(queue.take(packed(4096), 2, Instant::now()).batch.len(), 4);
    assert_eq!(queue.take(packed(4096), 1, Instant::now()).batch.len(), 4);
    let mut queue = filled(&[(1, 10); 4]);
    assert_eq!(
        queue.take(packed(4096), 2, Instant::now()).batch.len(),
        4,
        "too little to share"
    );
}

#[test]
fn what_is_late_or_removed_is_not_computed() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(Waiting {
        deadline: Some(now),
        ..text(1, 10, 0)
    });
    let cancelled = queue.push(text(1, 10, 1));
    queue.push(Waiting {
        deadline: Some(now + Duration::from_millis(1)),
        ..text(1, 10, 2)
    });
    assert_eq!(queue.remove(cancelled).unwrap().item, 1);
    assert!(queue.remove(cancelled).is_none());
    let taken = queue.take(packed(1000), 1, now);
    assert_eq!((items(&taken.batch), items(&taken.expired)), (vec![2], vec![0]));
    assert!(queue.is_empty() && queue.tokens() == 0);
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        group: usize,
        tokens: usize,
        patience: Option<u64>,
    },
    Cancel {
        nth: usize,
    },
    Take {
        idle: usize,
    },
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 1..=512_usize, proptest::option::weighted(0.3, 0..50_u64))
            .prop_map(|(group, tokens, patience)| Step::Push { group, tokens, patience }),
        1 => (0..8_usize).prop_map(|nth| Step::Cancel { nth }),
        2 => (0..4_usize).prop_map(|idle| Step::Take { idle }),
        1 => (0..20_u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

proptest! {
    /// Runs the queue beside a plain list of what should be in it.
    #[test]
    fn nothing_is_lost_starves_or_breaks_the_budget(
        tokens_max in 1..2048_usize,
        padded: bool,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        let mut expected: BTreeMap<u64, (usize, usize, Option<Instant>)> = BTreeMap::new();
        let mut pushed = 0;
        for step in steps {
            match step {
                Step::Push { group, tokens, patience } => {
                    let deadline = patience.map(|millis| now + Duration::from_millis(millis));
                    let place = queue.push(Waiting { group, tokens, deadline, item: pushed });
                    prop_assert_eq!(place, pushed);
                    pushed += 1;
                    expected.insert(place, (group, tokens, deadline));
                }
                Step::Cancel { nth } => {
                    if let Some(place) = expected.keys().nth(nth).copied() {
                        expected.remove(&place);
                        prop_assert!(queue.remove(place).is_some());
                    }
                }
                Step::Wait { millis } => now += Duration::from_millis(millis),
                Step::Take { idle } => {
                    let taken = queue.take(Budget { tokens_max, padded }, idle, now);
                    prop_assert!(taken.expired.iter().all(|text| text.deadline.unwrap() <= now));
                    prop_assert!(taken.batch.iter().all(|text| text.deadline.is_none_or(|deadline| deadline > now)));
                    expected.retain(|_, text| text.2.is_none_or(|deadline| deadline > now));
                    let lengths = || taken.batch.iter().map(|text| text.tokens);
                    let padded_to = lengths().max().unwrap_or(0) * taken.batch.len();
                    let cost = if padded { padded_to } else { lengths().sum() };
                    prop_assert!(cost <= tokens_max || taken.batch.len() == 1);
                    let oldest = expected.first_key_value().map(|(place, _)| *place);
                    prop_assert_eq!(oldest, taken.batch.first().map(|text| text.item));
                    for text in &taken.batch {
                        prop_assert_eq!(text.group, taken.batch[0].group);
                        let waited = expected.remove(&text.item);
                        prop_assert_eq!(waited, Some((text.group, text.tokens, text.deadline)), "lost or doubled");
                    }
                }
            }
            prop_assert_eq!(queue.len(), expected.len());
            prop_assert_eq!(queue.tokens(), expected.values().map(|text| text.1).sum::<usize>());
        }
    }
}
