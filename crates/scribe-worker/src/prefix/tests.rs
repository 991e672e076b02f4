use proptest::prelude::*;

use super::*;

struct Cache {
    ledger: Ledger,
    ops: Vec<Op>,
    /// What the real cache would hold after the ops.
    mirror: Vec<Vec<u32>>,
}

impl Cache {
    fn new(sequences: usize, cells: usize) -> Self {
        Self {
            ledger: Ledger::new(sequences, cells),
            ops: Vec::new(),
            mirror: vec![Vec::new(); sequences],
        }
    }

    /// Does the ops to the mirror, and tells them.
    fn apply(&mut self) -> Vec<Op> {
        let ops = std::mem::take(&mut self.ops);
        for op in &ops {
            match *op {
                Op::Copy { from, to, tokens } => self.mirror[to] = self.mirror[from][..tokens].to_vec(),
                Op::Trim { sequence, tokens } => self.mirror[sequence].truncate(tokens),
                Op::Swap(a, b) => self.mirror.swap(a, b),
            }
        }
        ops
    }

    fn push(&mut self, sequence: usize, tokens: &[u32]) {
        for &token in tokens {
            assert!(self.ledger.push(sequence, token));
            self.mirror[sequence].push(token);
        }
    }

    fn admit(&mut self, prompt: &[u32]) -> Option<Admitted> {
        let admitted = self.ledger.admit(prompt, &mut self.ops)?;
        self.apply();
        assert_eq!(self.mirror[admitted.sequence], prompt[..admitted.cached]);
        self.push(admitted.sequence, &prompt[admitted.cached..]);
        Some(admitted)
    }

    /// Runs a request to its end.
    fn run(&mut self, prompt: &[u32], answer: &[u32]) -> Admitted {
        let admitted = self.admit(prompt).unwrap();
        self.push(admitted.sequence, answer);
        self.ledger.finish(admitted.sequence);
        admitted
    }

    fn agrees(&self) -> bool {
        let held = self.ledger.sequences.iter().map(|one| &one.tokens);
        held.eq(&self.mirror)
    }
}

fn repeated(token: u32, times: usize, end: &[u32]) -> Vec<u32> {
    [&vec![token; times][..], end].concat()
}

#[test]
fn next_turn_computes_only_what_is_new() {
    let mut cache = Cache::new(2, 100);
    let first = cache.run(&[1, 2, 3], &[4, 5]);
    let next = cache.run(&[1, 2, 3, 4, 5, 6, 7], &[8]);
    assert_eq!((next.sequence, next.cached), (first.sequence, 5));
    // The same again: all but the last token.
    assert_eq!(cache.run(&[1, 2, 3, 4, 5, 6, 7], &[9]).cached, 6);
    assert_eq!(cache.ledger.used(), 8);
}

#[test]
fn long_beginning_of_one_that_runs_is_copied() {
    let mut cache = Cache::new(3, 100);
    let first = cache.admit(&repeated(1, 40, &[2, 3])).unwrap();
    let second = cache.admit(&repeated(1, 40, &[9])).unwrap();
    assert_eq!(second.cached, 40);
    assert_eq!(cache.ledger.used(), 42 + 41);
    // A short one is computed.
    let third = cache.admit(&repeated(1, COPY_TOKENS_MIN - 1, &[9])).unwrap();
    assert_eq!(third.cached, 0);
    assert_eq!(cache.admit(&[1]), None);
    // One is free, but what it held is in doubt.
    cache.ledger.discard(first.sequence, &mut cache.ops);
    cache.apply();
    let again = cache.admit(&repeated(1, 60, &[])).unwrap();
    assert_eq!((again.sequence, again.cached), (first.sequence, 40));
}

#[test]
fn a_sequence_that_has_much_else_is_left_as_it_is() {
    let mut cache = Cache::new(2, 200);
    let system = repeated(1, 40, &[]);
    let first = cache.run(&[&system[..], &[2; 60]].concat(), &[]);
    let second = cache.run(&[&system[..], &[3]].concat(), &[]);
    assert_ne!(second.sequence, first.sequence);
    assert_eq!(second.cached, 40);
    // Both go on.
    assert_eq!(cache.run(&[&system[..], &[2; 80]].concat(), &[]).cached, 100);
    assert_eq!(cache.run(&[&system[..], &[3, 4]].concat(), &[]).cached, 41);
    // It is the oldest now, and its beginning is found in it.
    assert_eq!(cache.run(&[&system[..], &[5; 5]].concat(), &[]).cached, 40);
}

#[test]
fn nothing_is_lost_while_a_sequence_is_empty() {
    let mut cache = Cache::new(2, 200);
    let system = repeated(1, 60, &[]);
    let first = cache.run(&[&system[..], &[2; 40]].concat(), &[]);
    let second = cache.run(&[&system[..], &[3; 40]].concat(), &[]);
    assert_eq!((second.sequence != first.sequence, second.cached), (true, 60));
    // Now something must go: the end of the older of them.
    let third = cache.run(&[&system[..], &[4; 10]].concat(), &[]);
    assert_eq!((third.sequence, third.cached), (first.sequence, 60));
    assert_eq!(cache.run(&[&system[..], &[3; 50]].concat(), &[]).cached, 100);
}

#[test]
fn a_long_sequence_is_not_copied_for_a_little() {
    let mut cache = Cache::new(2, 10_000);
    cache.run(&repeated(1, 40, &[2; 9000]), &[]);
    assert_eq!(cache.run(&repeated(1, 40, &[3]), &[]).cached, 0);
}

#[test]
fn least_recently_used_goes_first() {
    let mut cache = Cache::new(3, 12);
    for token in 1..=3 {
        cache.run(&[token; 4], &[]);
    }
    // Used again, so that 2 is the oldest.
    assert_eq!(cache.run(&[1; 5], &[]).cached, 4);
    assert_eq!(cache.run(&[4; 4], &[]).cached, 0);
    assert_eq!(cache.run(&[3; 5], &[]).cached, 4);
    assert_eq!(cache.run(&[1; 6], &[]).cached, 5);
    assert_eq!(cache.run(&[2; 4], &[]).cached, 0);
}

#[test]
fn a_mere_beginning_goes_before_the_oldest() {
    let mut cache = Cache::new(3, 100);
    cache.run(&[9; 4], &[]);
    let long = cache.admit(&[1, 1, 1, 2]).unwrap();
    let short = cache.run(&[1, 1, 1], &[]);
    cache.ledger.finish(long.sequence);
    assert_eq!(cache.run(&[7, 7], &[]).sequence, short.sequence);
}

#[test]
fn those_that_run_are_gathered() {
    let mut cache = Cache::new(6, 10);
    for token in 1..=6 {
        cache.run(&[token; 3], &[]);
    }
    let mut gather = |sequences: &[usize]| {
        cache.ledger.gather(sequences, &mut cache.ops);
        cache.apply()
    };
    assert_eq!(gather(&[]), []);
    assert_eq!(gather(&[3]), []);
    assert_eq!(gather(&[2, 3, 4]), []);
    assert_eq!(gather(&[0, 3, 4]), [Op::Swap(0, 2)]);
    assert_eq!(gather(&[0, 5]), [Op::Swap(5, 1)]);
    assert_eq!(gather(&[0, 2, 3, 5]), [Op::Swap(5, 1)]);
    assert_eq!(gather(&[0, 1, 2, 3, 4, 5]), []);
    assert!(cache.agrees());
    assert_eq!(cache.ledger.used(), 18);
}

#[test]
fn a_sequence_has_its_own_bound() {
    let mut cache = Cache::new(2, 3);
    let admitted = cache.admit(&[1, 2, 3]).unwrap();
    assert!(!cache.ledger.push(admitted.sequence, 4));
    assert_eq!(cache.ledger.length(admitted.sequence), 3);
}

proptest! {
    /// Whatever comes, the books and the cache agree, and what is reused is what the prompt says.
    #[test]
    fn books_are_right(requests in prop::collection::vec((0u32..3, 1usize..80, 0usize..6, any::<bool>(), any::<bool>(), any::<bool>()), 1..40)) {
        let slots = 4;
        let mut cache = Cache::new(slots, 100);
        // A number that follows its request, wherever that is moved.
        let mut running: Vec<Vec<u32>> = Vec::new();
        for (token, length, answer, keep, end, gather) in requests {
            if running.len() == slots || (end && !running.is_empty()) {
                let prompt = running.remove(0);
                let is_it = |(number, one): (usize, &Sequence)| (one.usage == Use::Running && one.tokens == prompt).then_some(number);
                let sequence = cache.ledger.sequences.iter().enumerate().find_map(is_it).unwrap();
                cache.push(sequence, &vec![7; answer]);
                if keep {
                    cache.ledger.finish(sequence);
                } else {
                    cache.ledger.discard(sequence, &mut cache.ops);
                    cache.apply();
                }
            }
            let prompt = repeated(token, length, &[8]);
            prop_assert!(cache.admit(&prompt).is_some(), "one is idle");
            running.push(prompt);
            if gather {
                let runs = |ledger: &Ledger| -> Vec<usize> { (0..slots).filter(|one| !ledger.is_idle(*one)).collect() };
                cache.ledger.gather(&runs(&cache.ledger), &mut cache.ops);
                cache.apply();
                let after = runs(&cache.ledger);
                prop_assert!(after.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{after:?}");
            }
            prop_assert!(cache.agrees());
            let runs = cache.ledger.sequences.iter().filter(|one| one.usage == Use::Running).count();
            prop_assert_eq!(runs, running.len());
        }
    }
}
