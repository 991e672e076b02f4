//! Labels that come later: which version was right.

use std::collections::{HashMap, VecDeque};

use understudy_rollout::scorecard::LabelCard;

use crate::observe::Side;

/// Requests that are remembered for a model; the newest win.
const REMEMBERED_MAX: usize = 50_000;

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    /// It counts.
    Taken,
    /// The request is not known (any more), or was labelled before.
    Unknown,
}

/// Labels that versions gave to requests, until it is told which was right.
#[derive(Debug, Default)]
pub struct Labels {
    remembered: HashMap<u64, Given>,
    /// Oldest first; also those that were labelled since.
    order: VecDeque<u64>,
    card: LabelCard,
}

#[derive(Debug)]
struct Given {
    /// The version that answered the client.
    side: Side,
    label: Box<str>,
    /// The candidate's label of a mirrored request.
    candidate: Option<Box<str>>,
}

impl Labels {
    /// What was counted.
    #[must_use]
    pub fn card(&self) -> LabelCard {
        self.card
    }

    /// A version gave this label.
    pub fn remember(&mut self, id: u64, side: Side, label: &str) {
        if self.order.len() == REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        self.order.push_back(id);
        let given = Given {
            side,
            label: label.into(),
            candidate: None,
        };
        self.remembered.insert(id, given);
    }

    /// The candidate gave this label to a copy of a request that the stable version answered.
    pub fn pair(&mut self, id: u64, label: &str) {
        if let Some(given) = self.remembered.get_mut(&id) {
            given.candidate = Some(label.into());
        }
    }

    /// This label is right.
    pub fn label(&mut self, id: u64, label: &str) -> Labelled {
        let Some(given) = self.remembered.remove(&id) else {
            return Labelled::Unknown;
        };
        let right = *given.label == *label;
        let candidate = given.candidate.map(|given| *given == *label);
        let card = &mut self.card;
        let count = match (given.side, right, candidate) {
            (Side::Candidate, true, _) => &mut card.candidate_right,
            (Side::Candidate, false, _) => &mut card.candidate_wrong,
            (Side::Stable, true, None) => &mut card.stable_right,
            (Side::Stable, false, None) => &mut card.stable_wrong,
            (Side::Stable, true, Some(true)) => &mut card.both_right,
            (Side::Stable, true, Some(false)) => &mut card.only_stable_right,
            (Side::Stable, false, Some(true)) => &mut card.only_candidate_right,
            (Side::Stable, false, Some(false)) => &mut card.both_wrong,
        };
        *count += 1;
        Labelled::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_count_as_pairs_others_by_arm_and_each_once() {
        let mut labels = Labels::default();
        let cases = [
            (1, Side::Stable, "a", Some("a")),
            (2, Side::Stable, "a", Some("b")),
            (3, Side::Stable, "b", Some("a")),
            (4, Side::Stable, "b", Some("c")),
            (5, Side::Stable, "a", None),
            (6, Side::Stable, "b", None),
            (7, Side::Candidate, "a", None),
            (8, Side::Candidate, "b", None),
        ];
        for (id, side, label, candidate) in cases {
            labels.remember(id, side, label);
            candidate.into_iter().for_each(|label| labels.pair(id, label));
        }
        for id in 1..=8 {
            assert_eq!(labels.label(id, "a"), Labelled::Taken);
            assert_eq!(labels.label(id, "a"), Labelled::Unknown);
        }
        let card = LabelCard {
            both_right: 1,
            only_stable_right: 1,
            only_candidate_right: 1,
            both_wrong: 1,
            stable_right: 1,
            stable_wrong: 1,
            candidate_right: 1,
            candidate_wrong: 1,
        };
        assert_eq!(labels.card(), card);
        labels.pair(1, "a");
        assert_eq!(labels.label(9, "a"), Labelled::Unknown);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut labels = Labels::default();
        (0..60_000).for_each(|id| labels.remember(id, Side::Stable, "a"));
        assert_eq!((labels.order.len(), labels.remembered.len()), (50_000, 50_000));
        assert_eq!(labels.label(9_999, "a"), Labelled::Unknown);
        assert_eq!(labels.label(10_000, "a"), Labelled::Taken);
    }
}
