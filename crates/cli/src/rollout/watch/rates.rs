//! Requests per second of both arms over the last seconds.

use std::{collections::VecDeque, time::Duration};

use understudy_protocol::v1::{ArmCard, Slice};

const WINDOW: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    epoch: u64,
    stable: u64,
    candidate: u64,
}

impl Rates {
    /// Takes what was counted at this time since the view began.
    pub(super) fn push(&mut self, at: Duration, slice: &Slice) {
        let requests = |card: &Option<ArmCard>| card.as_ref().map_or(0, |card| card.requests);
        let sample = Sample {
            at,
            epoch: slice.epoch,
            stable: requests(&slice.stable),
            candidate: requests(&slice.candidate),
        };
        // Each route counts from 0; and a router that went away takes its counts with it.
        let goes_on = self.samples.back().is_some_and(|last| {
            last.epoch == sample.epoch && last.stable <= sample.stable && last.candidate <= sample.candidate
        });
        if !goes_on {
            self.samples.clear();
        }
        self.samples.push_back(sample);
        // The oldest one kept is just outside of the window.
        while self.samples.get(1).is_some_and(|second| at - second.at >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Stable arm and candidate; `None` before there is anything to compare.
    pub(super) fn get(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.at.checked_sub(first.at)?.as_secs_f64();
        let rate = |first: u64, last: u64| (last - first) as f64 / seconds;
        (seconds > 0.0).then(|| (rate(first.stable, last.stable), rate(first.candidate, last.candidate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(epoch: u64, stable: u64, candidate: u64) -> Slice {
        let card = |requests| {
            Some(ArmCard {
                requests,
                ..ArmCard::default()
            })
        };
        Slice {
            epoch,
            stable: card(stable),
            candidate: card(candidate),
            ..Slice::default()
        }
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_and_of_one_route() {
        let mut rates = Rates::default();
        assert_eq!(rates.get(), None);
        for second in 0..20 {
            // It stands still for ten seconds and then goes on.
            let stable = if second < 10 { 0 } else { (second - 10) * 100 };
            rates.push(Duration::from_secs(second), &slice(1, stable, second));
        }
        assert_eq!(rates.get(), Some((100.0, 1.0)));
        rates.push(Duration::from_secs(20), &slice(2, 5, 5));
        assert_eq!(rates.get(), None, "another route counts from 0");
        rates.push(Duration::from_secs(22), &slice(2, 15, 7));
        assert_eq!(rates.get(), Some((5.0, 1.0)));
        rates.push(Duration::from_secs(23), &slice(2, 3, 7));
        assert_eq!(rates.get(), None, "a router went away");
    }
}
