//! The way back: at once, or as the stable version's workers become warm.

use super::{
    Observation, Phase, Rollout,
    course::{Next, go, routers},
    words::{percent, workers},
};
use crate::split::PPM;

/// A candidate with at most this share may give it back at once: the stable version's workers carry the rest already.
const SMALL_SHARE_PPM: u32 = 100_000;

/// While the stable version is still cold, it takes back at least this much at a time: each time is a new route.
const RETURN_PPM_MIN: u32 = 100_000;

impl Rollout {
    /// Goes on going back.
    pub(super) fn go_back(&self, observation: &Observation, reason: &str, candidate_ppm: u32) -> Next {
        let stable = &self.spec.stable;
        if candidate_ppm == 0 {
            if self.all_current(observation) {
                let reason = reason.to_owned();
                return go(
                    Phase::RolledBack { reason },
                    format!("every router gives {stable} all traffic"),
                );
            }
            return Next::Wait(routers(observation));
        }
        let overdue = self.stalled >= self.spec.progress_deadline;
        let left = if overdue {
            0
        } else {
            left_with_candidate(observation, candidate_ppm)
        };
        let ready = format!(
            "{stable} is ready on {} against {} of {}",
            workers(observation.stable_ready),
            observation.candidate_ready,
            self.spec.candidate
        );
        if left == 0 || candidate_ppm - left >= RETURN_PPM_MIN {
            let reason = reason.to_owned();
            let to = Phase::RollingBack {
                reason,
                candidate_ppm: left,
            };
            return go(to, format!("{ready}: it takes {}", percent(PPM - left)));
        }
        Next::Wait(format!(
            "workers to load {stable}: {ready}, and it has {}; abort once more to give it everything now",
            percent(PPM - candidate_ppm)
        ))
    }

    /// Begins to go back.
    pub(super) fn give_back(&self, observation: &Observation, why: &str) -> Next {
        let left = left_with_candidate(observation, self.candidate_weight_ppm());
        let mut reason = why.to_owned();
        if left > 0 {
            let (stable, takes) = (&self.spec.stable, percent(PPM - left));
            let ready = workers(observation.stable_ready);
            reason = format!("{why}; {stable} is ready on {ready} and takes {takes} for now");
        }
        let to = Phase::RollingBack {
            reason: why.to_owned(),
            candidate_ppm: left,
        };
        go(to, reason)
    }
}

/// The share that stays with the candidate while it goes back: none, unless the stable version is ready on fewer workers
/// than the candidate that has much of the traffic. Then the stable version gets what those workers can carry.
fn left_with_candidate(observation: &Observation, candidate_ppm: u32) -> u32 {
    let (stable, candidate) = (observation.stable_ready, observation.candidate_ready);
    let warm = stable >= candidate || (stable > 0 && candidate_ppm <= SMALL_SHARE_PPM);
    if candidate == 0 || warm {
        return 0;
    }
    let cold = u64::from(PPM) * u64::from(candidate - stable) / u64::from(candidate);
    u32::try_from(cold).map_or(candidate_ppm, |cold| cold.min(candidate_ppm))
}
