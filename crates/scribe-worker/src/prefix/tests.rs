use proptest::prelude::*;

use super::*;

struct Cache {
    ledger: Ledger,
    ops: Vec<Op>,
}

impl Cache {
    fn new(sequences: usize, cells: u32) -> Self {
        Self {
            ledger: Ledger::new(sequences, cells),
            ops: Vec::new(),
        }
    }

    fn admit(&mut self, prompt: &[u32], limit: usize) -> Option<Admitted> {
        let admitted = self.ledger.admit(prompt, limit, &mut self.ops)?;
        for &token in &prompt[admitted.cached..] {
            assert!(self.ledger.push(admitted.sequence, token));
        }
        Some(admitted)
    }

    /// Runs a request to its end.
    fn run(&mut self, prompt: &[u32], answer: &[u32]) -> Admitted {
        let admitted = self.admit(prompt, prompt.len() + answer.len()).unwrap();
        for &token in answer {
            assert!(self.ledger.push(admitted.sequence, token));
        }
        self.ledger.finish(admitted.sequence, &mut self.ops);
        admitted
    }
}

#[test]
fn next_turn_computes_only_what_is_new() {
    let mut cache = Cache::new(4, 100);
    assert_eq!(cache.run(&[1, 2, 3], &[4, 5]).cached, 0);
    assert_eq!(cache.run(&[1, 2, 3, 4, 5, 6, 7], &[8]).cached, 5);
    // The first is the second's beginning, so only the second is kept.
    assert_eq!(cache.ledger.used(), 8);
    // The same again: all but the last token.
    assert_eq!(cache.run(&[1, 2, 3, 4, 5, 6, 7], &[9]).cached, 6);
    assert_eq!(cache.run(&[1, 2, 9], &[]).cached, 2);
}

#[test]
fn prefix_of_one_that_runs_is_shared() {
    let mut cache = Cache::new(4, 100);
    let first = cache.admit(&[1, 2, 3, 4], 10).unwrap();
    let second = cache.admit(&[1, 2, 3, 9], 10).unwrap();
    assert_eq!(second.cached, 3);
    assert_eq!(
        cache.ops,
        [Op::Copy {
            from: first.sequence,
            to: second.sequence,
            tokens: 3
        }]
    );
    assert_eq!(cache.ledger.used(), 5);
    cache.ledger.discard(first.sequence, &mut cache.ops);
    assert_eq!(cache.ledger.used(), 4);
}

#[test]
fn room_is_reserved_to_the_end() {
    let mut cache = Cache::new(8, 20);
    let first = cache.admit(&[1, 2], 12).unwrap();
    assert_eq!(cache.admit(&[3, 4], 9), None);
    assert!(cache.admit(&[3, 4], 8).is_some());
    assert_eq!(cache.admit(&[5], 1), None);
    cache.ledger.discard(first.sequence, &mut cache.ops);
    assert!(cache.admit(&[5], 12).is_some());
}

#[test]
fn least_recently_used_goes_first() {
    let mut cache = Cache::new(6, 12);
    cache.run(&[1, 1], &[1, 1]);
    cache.run(&[2, 2], &[2, 2]);
    cache.run(&[3, 3], &[3, 3]);
    // Used again, so that 2 is the oldest.
    assert_eq!(cache.run(&[1, 1, 1, 1, 1], &[]).cached, 4);
    assert_eq!(cache.run(&[1, 1, 1, 1, 1, 1], &[]).cached, 5);
    assert_eq!(cache.run(&[2, 2, 2, 2], &[]).cached, 0);
    assert_eq!(cache.run(&[4; 12], &[]).cached, 0);
    assert_eq!(cache.ledger.used(), 12);
}

#[test]
fn source_stays_until_its_prefix_is_shared() {
    // The only kept sequence is the source, and it must go to make room.
    let mut cache = Cache::new(3, 10);
    cache.run(&[1, 2, 3, 4, 5, 6, 7, 8], &[]);
    let admitted = cache.admit(&[1, 2, 3, 4, 9], 10).unwrap();
    assert_eq!(admitted.cached, 4);
    assert_eq!(cache.ledger.used(), 5);
    assert_eq!(cache.ops.len(), 2);
}

proptest! {
    /// Whatever comes, the books are right: cells are counted once, and what runs finds room to its end.
    #[test]
    fn books_are_right(requests in prop::collection::vec((prop::collection::vec(0u32..3, 1..12), 0usize..6, any::<bool>(), any::<bool>()), 1..40)) {
        let (slots, cells) = (3, 30);
        let mut cache = Cache::new(slots + 2, cells);
        let mut running: Vec<(Admitted, usize)> = Vec::new();
        for (prompt, answer, keep, end) in requests {
            if running.len() == slots || (end && !running.is_empty()) {
                let (admitted, rest) = running.remove(0);
                for token in 0..rest {
                    prop_assert!(cache.ledger.push(admitted.sequence, u32::try_from(token).unwrap()));
                }
                if keep {
                    cache.ledger.finish(admitted.sequence, &mut cache.ops);
                } else {
                    cache.ledger.discard(admitted.sequence, &mut cache.ops);
                }
            }
            if let Some(admitted) = cache.admit(&prompt, prompt.len() + answer) {
                prop_assert!(running.iter().all(|(other, _)| other.sequence != admitted.sequence));
                running.push((admitted, answer));
            } else {
                prop_assert!(!running.is_empty(), "an empty cache has room");
            }
            let ledger = &cache.ledger;
            let held = ledger.holders.iter().filter(|holders| **holders > 0).count();
            prop_assert_eq!(held, ledger.used());
            let holders: u32 = ledger.holders.iter().sum();
            let lengths: usize = ledger.sequences.iter().map(|one| one.cells.len()).sum();
            prop_assert_eq!(holders as usize, lengths);
            prop_assert!(ledger.reserved() <= ledger.free.len());
        }
    }
}
