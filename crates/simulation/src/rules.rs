//! Who decides: our rollouts, and the rules in use elsewhere, on the same requests.

mod ours;
mod peers;

use crate::{scenario::Scenario, world::Second};

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The candidate takes over.
    Promoted,
    /// It goes.
    RolledBack,
}

/// The candidate's share where a rule does not change it.
const CANARY_PPM: u32 = 50_000;

/// Decides from second to second.
pub(crate) trait Rule {
    /// The candidate's share for the next second.
    fn candidate_ppm(&self) -> u32 {
        CANARY_PPM
    }
    /// The share of requests to mirror in the next second.
    fn mirrored(&self) -> f64 {
        0.0
    }
    /// Sees a second; may decide.
    fn see(&mut self, second: &Second) -> Option<Decision>;
    /// The traffic is over.
    fn end(&mut self) -> Option<Decision> {
        None
    }
}

/// A rule's name, and how it is made.
pub(crate) type Maker = (&'static str, fn(&Scenario) -> Box<dyn Rule>);

/// All rules, in the table's order.
pub(crate) const ALL: &[Maker] = &[
    ("Understudy, 5% canary", |scenario| {
        Box::new(ours::Ours::new(scenario, &[CANARY_PPM]))
    }),
    ("Understudy, 1/5/25/50%", |scenario| {
        Box::new(ours::Ours::new(scenario, &[10_000, 50_000, 250_000, 500_000]))
    }),
    ("threshold on windows, limit 1", |_| Box::new(peers::Windows::new(1))),
    ("threshold on windows, limit 5", |_| Box::new(peers::Windows::new(5))),
    ("z-test at each window", |_| Box::new(peers::RepeatedZ::default())),
    ("Mann–Whitney at the end", |_| Box::new(peers::MannWhitney::default())),
];
