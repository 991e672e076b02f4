//! What a turn computes (pure).
//!
//! Every running stream has one token in every turn; prompts have what is left. So a prompt, however long, delays a stream
//! by one chunk, and with streams running a chunk is a small part of the batch.
//!
//! llama.cpp computes sequences together as far as they have equally many tokens, and what is left of the longer ones by
//! itself. So a prompt joins another only if it fits in as a whole: two halves cost more than two wholes.
//!
//! Prompts that need least go first, which makes the waits for a first token short; but every other turn it is the next
//! slot's, so that a long prompt comes on however many short ones there are.

/// What a slot has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing, in this turn.
    None,
    /// A token was chosen and is to be computed.
    Token,
    /// That many tokens of a prompt are not computed yet.
    Prompt(usize),
}

/// How much a turn may compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tokens at most; not less than there are slots.
    pub batch: usize,
    /// Tokens of prompts at most, while streams run.
    pub chunk: usize,
}

/// How many tokens of each slot are computed. `turn` counts the turns.
#[must_use]
pub fn plan(slots: &[Work], budget: Budget, turn: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = slots.iter().map(|work| usize::from(*work == Work::Token)).collect();
    let streams: usize = counts.iter().sum();
    let mut left = match streams {
        0 => budget.batch,
        _ => budget.batch.saturating_sub(streams).min(budget.chunk),
    };
    let mut order: Vec<usize> = (0..slots.len()).map(|step| (turn / 2 + step) % slots.len()).collect();
    if turn.is_multiple_of(2) {
        order.sort_by_key(|&slot| match slots[slot] {
            Work::Prompt(tokens) => tokens,
            Work::None | Work::Token => 0,
        });
    }
    let mut alone = true;
    for slot in order {
        if let Work::Prompt(tokens) = slots[slot]
            && (alone || tokens <= left)
        {
            counts[slot] = tokens.min(left);
            left -= counts[slot];
            alone = false;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Budget = Budget { batch: 512, chunk: 128 };

    #[test]
    fn streams_come_first_and_prompts_that_fit_have_the_rest() {
        use Work::{None, Prompt, Token};
        assert_eq!(plan(&[None, Prompt(4000), None], BUDGET, 0), [0, 512, 0]);
        assert_eq!(plan(&[Token, Prompt(4000), Token], BUDGET, 0), [1, 128, 1]);
        // The shortest, then the first, the shortest, then the second.
        let turns = |slots: [Work; 3]| [0, 1, 2, 3].map(|turn| plan(&slots, BUDGET, turn));
        assert_eq!(
            turns([Prompt(4000), Prompt(100), Token]),
            [[0, 100, 1], [128, 0, 1], [0, 100, 1], [0, 100, 1]]
        );
        assert_eq!(plan(&[Prompt(100), Prompt(4000), Prompt(20)], BUDGET, 0), [100, 0, 20]);
        assert_eq!(plan(&[Prompt(300), Prompt(300)], BUDGET, 3), [0, 300]);
        assert_eq!(plan(&[], BUDGET, 3), [0; 0]);
    }

    proptest! {
        #[test]
        fn every_stream_moves_in_every_turn(works in prop::collection::vec(prop_oneof![Just(Work::None), Just(Work::Token), (1usize..5000).prop_map(Work::Prompt)], 1..16), turn in 0usize..99) {
            let counts = plan(&works, BUDGET, turn);
            prop_assert!(counts.iter().sum::<usize>() <= BUDGET.batch);
            for (work, count) in works.iter().zip(&counts) {
                match work {
                    Work::None => prop_assert_eq!(*count, 0),
                    Work::Token => prop_assert_eq!(*count, 1),
                    Work::Prompt(tokens) => prop_assert!(count <= tokens),
                }
            }
            // Something is computed if there is anything to compute.
            prop_assert_eq!(counts.iter().all(|count| *count == 0), works.iter().all(|work| *work == Work::None));
        }
    }
}
