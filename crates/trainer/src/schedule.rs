//! The learning rate of each step.

use crate::recipe::Schedule;

/// A warm-up in steps takes at most this share of them, or a short run would end before it has begun to learn.
const WARM_UP_SHARE_MAX: f64 = 0.5;

/// Rises in a straight line, then falls by the schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LearningRate {
    peak: f64,
    schedule: Schedule,
    /// Steps, and one more, so that the last step's rate is above 0.
    end: f64,
    warm_up: f64,
}

impl LearningRate {
    /// For a run of `total` steps: the highest rate, and the steps of the warm-up or, below 1, their share.
    pub(crate) fn new(peak: f64, warm_up: f64, schedule: Schedule, total: u64) -> Self {
        let end = (total + 1) as f64;
        let warm_up = if warm_up < 1.0 {
            warm_up * end
        } else {
            warm_up.min(WARM_UP_SHARE_MAX * total as f64)
        };
        Self {
            peak,
            schedule,
            end,
            warm_up,
        }
    }

    /// The rate of a step, counted from 0.
    pub(crate) fn at(&self, step: u64) -> f64 {
        let done = (step + 1) as f64;
        if done < self.warm_up {
            return self.peak * done / self.warm_up;
        }
        let fallen = (done - self.warm_up) / (self.end - self.warm_up);
        self.peak
            * match self.schedule {
                Schedule::Linear => 1.0 - fallen,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * fallen).cos()),
                Schedule::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(warm_up: f64, schedule: Schedule, total: u64) -> Vec<f64> {
        let rate = LearningRate::new(1.0, warm_up, schedule, total);
        (0..total).map(|step| rate.at(step)).collect()
    }

    #[test]
    fn rises_and_falls() {
        let close = |rates: Vec<f64>, expected: &[f64]| {
            assert_eq!(rates.len(), expected.len());
            for (rate, expected) in rates.iter().zip(expected) {
                assert!((rate - expected).abs() < 1e-9, "{rates:?}");
            }
        };
        close(
            rates(4.0, Schedule::Linear, 9),
            &[0.25, 0.5, 0.75, 1.0, 5.0 / 6.0, 4.0 / 6.0, 0.5, 2.0 / 6.0, 1.0 / 6.0],
        );
        close(
            rates(0.5, Schedule::Constant, 5),
            &[1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 1.0],
        );
        close(
            rates(0.0, Schedule::Cosine, 3),
            &[0.853_553_390_6, 0.5, 0.146_446_609_4],
        );
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_cut() {
        let rates = rates(500.0, Schedule::Linear, 20);
        assert!((rates[9] - 1.0).abs() < 1e-9 && rates[19] < 0.1, "{rates:?}");
    }
}
