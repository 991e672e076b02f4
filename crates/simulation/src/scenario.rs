//! What is wrong with a candidate, or with everything.

/// Traffic of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Traffic {
    /// So many requests a second.
    Steady(f64),
    /// A fourth of that, and four times that for 20 s of each 100, when everything is slower too.
    Bursty(f64),
    /// Around that, in a wave; busy hours are slow ones.
    Diurnal(f64),
}

/// What should become of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It is no worse: rolling it back is an error.
    NoWorse,
    /// It is worse: promoting it is an error.
    Worse,
}

/// A scenario.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// As the table has it.
    pub(crate) name: &'static str,
    /// What should come out.
    pub(crate) truth: Truth,
    /// How many requests come.
    pub(crate) traffic: Traffic,
    /// The stable version's share of errors.
    pub(crate) base_errors: f64,
    /// The candidate's errors over the stable version's.
    pub(crate) error_ratio: f64,
    /// From this second on, for that long, both arms fail with this probability.
    pub(crate) incident: Option<(f64, f64, f64)>,
    /// The candidate's latency over the stable version's, and by how much that grows each second.
    pub(crate) latency: (f64, f64),
    /// Share of each class, and with what probability the candidate names another one.
    pub(crate) classes: &'static [(f64, f64)],
    /// Callers have affinity keys; a few are heavy, a few are broken.
    pub(crate) affinity: bool,
    /// The candidate is mirrored first, and its answers compared.
    pub(crate) shadow: bool,
    /// Requests after which a run ends undecided.
    pub(crate) requests_max: u64,
}

const AGREEING: &[(f64, f64)] = &[(0.5, 0.03), (0.5, 0.03)];

impl Scenario {
    fn usual(name: &'static str, truth: Truth) -> Self {
        Self {
            name,
            truth,
            traffic: Traffic::Steady(200.0),
            base_errors: 0.01,
            error_ratio: 1.0,
            incident: None,
            latency: (1.0, 0.0),
            classes: AGREEING,
            affinity: false,
            shadow: false,
            requests_max: 200_000,
        }
    }

    /// The candidate's latency over the stable version's.
    pub(crate) fn latency_factor(&self, time: f64) -> f64 {
        self.latency.0 + self.latency.1 * time
    }

    /// The share of errors that both arms have.
    pub(crate) fn errors_of_both(&self, time: f64) -> f64 {
        match self.incident {
            Some((begin, length, errors)) if (begin..begin + length).contains(&time) => errors,
            _ => self.base_errors,
        }
    }
}

/// All scenarios, in the table's order.
pub(crate) fn all() -> Vec<Scenario> {
    use Truth::{NoWorse, Worse};
    let usual = Scenario::usual;
    let ratio = |name, error_ratio| Scenario {
        error_ratio,
        ..usual(name, Worse)
    };
    let latency = |name, truth, factor| Scenario {
        latency: (factor, 0.0),
        ..usual(name, truth)
    };
    let shadow = |name, truth, classes| Scenario {
        shadow: true,
        classes,
        ..usual(name, truth)
    };
    vec![
        usual("no change", NoWorse),
        Scenario {
            base_errors: 0.0,
            ..usual("no change, no errors at all", NoWorse)
        },
        ratio("errors × 1.5", 1.5),
        ratio("errors × 2", 2.0),
        ratio("errors × 3", 3.0),
        ratio("errors × 10", 10.0),
        latency("latency + 10%", NoWorse, 1.1),
        latency("latency + 50%", Worse, 1.5),
        latency("latency + 200%", Worse, 3.0),
        Scenario {
            latency: (1.0, 0.005),
            ..usual("leak: + 30% latency a minute", Worse)
        },
        Scenario {
            incident: Some((100.0, 60.0, 0.2)),
            ..usual("shared incident: 20% errors on both arms for a minute", NoWorse)
        },
        Scenario {
            traffic: Traffic::Steady(0.5),
            requests_max: 1_800,
            ..usual("low traffic: one request in 2 s, for an hour", NoWorse)
        },
        Scenario {
            traffic: Traffic::Bursty(200.0),
            ..usual("bursty traffic", NoWorse)
        },
        Scenario {
            traffic: Traffic::Diurnal(200.0),
            ..usual("diurnal traffic", NoWorse)
        },
        Scenario {
            affinity: true,
            ..usual("heavy and broken callers, affinity", NoWorse)
        },
        Scenario {
            affinity: true,
            error_ratio: 3.0,
            ..usual("heavy and broken callers, affinity, errors × 3", Worse)
        },
        shadow("predictions: 3% flip", NoWorse, AGREEING),
        shadow("predictions: 35% flip", Worse, &[(0.5, 0.35), (0.5, 0.35)]),
        shadow(
            "broken for one class of five",
            Worse,
            &[(0.3, 0.03), (0.3, 0.03), (0.2, 0.03), (0.15, 0.03), (0.05, 0.9)],
        ),
    ]
}
