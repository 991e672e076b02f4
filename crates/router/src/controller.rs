//! Rollouts: what the pure machine decides, carried out.
//!
//! ```text
//!   Route, Rollout, Worker, Scorecard ─follow─▶ Observation ─▶ Rollout::advance ─▶ Change ─▶ one fenced transaction:
//!        ▲                                                                                    rollout + route
//!        └────────────────────────────── registry ◀───────────────────────────────────────────────┘
//! ```
//!
//! Every router runs this and counts; only the elected one decides. Invariants:
//! * A decision and its route are one transaction, which compares both records' revisions and the leader's key. So there is
//!   no half-taken step: who leads next reads what stands and goes on, and a leader that does not know that it is
//!   none any more changes nothing.
//! * Nothing is remembered but time. A new leader loses at most `PERSIST_EVERY` of it, and time is only ever counted by a
//!   monotonic clock, in pieces of at most `ELAPSED_MAX`: a clock that jumps, or a process that was asleep, skips no step.
//! * While the registry is away nothing is decided and no time passes. The data plane goes on with the last route.
//! * An operator's command is the same transaction without the fence, by whichever router is asked: it needs no leader.
//!
//! Deliberately absent: memory of which webhooks were sent. A router that dies between its transaction and its calls sends none.

pub mod change;
pub mod desk;
mod lead;
pub mod metrics;
pub mod observation;
pub mod publish;
pub mod record;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;
use understudy_protocol::v1;
use understudy_registry::{Follow, Registry};

pub use desk::Desk;
use lead::Lead;

/// Rollouts are looked at this often, and at each change.
const TICK: Duration = Duration::from_millis(200);
/// Metrics are brought up to date this often.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Time that passed without anything else is written this often.
const PERSIST_EVERY: Duration = Duration::from_secs(5);
/// No more time than this passes between two looks, however long it really was.
const ELAPSED_MAX: Duration = Duration::from_secs(1);

/// What a router follows of the registry.
#[derive(Clone)]
pub struct Views {
    /// Routes of models.
    pub routes: Follow<v1::Route>,
    /// Workers.
    pub workers: Follow<v1::Worker>,
    /// Rollouts of models.
    pub rollouts: Follow<v1::Rollout>,
    /// All routers' counts.
    pub scorecards: Follow<v1::Scorecard>,
}

impl Views {
    /// Follows all of it from now on.
    #[must_use]
    pub fn follow(registry: &Registry) -> Self {
        Self {
            routes: registry.follow(),
            workers: registry.follow(),
            rollouts: registry.follow(),
            scorecards: registry.follow(),
        }
    }

    /// Whether all changes reach this router now.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.routes.view().connected
            && self.workers.view().connected
            && self.rollouts.view().connected
            && self.scorecards.view().connected
    }

    /// Waits for a change.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.routes.changed() => {}
            () = self.workers.changed() => {}
            () = self.rollouts.changed() => {}
            () = self.scorecards.changed() => {}
        }
    }
}

/// Decides for all models while this router leads, and keeps the metrics. Ends with its task.
pub async fn run(desk: Arc<Desk>) {
    let (mut views, mut leadership) = (desk.views.clone(), desk.leadership.clone());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lead: Option<Lead> = None;
    let mut measured: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let fence = leadership
            .borrow_and_update()
            .ours
            .clone()
            .filter(|fence| fence.is_valid(now));
        desk.metrics.leader.set(fence.is_some().into());
        match fence {
            None => lead = None,
            Some(fence) => {
                let term = lead.take().filter(|lead| lead.is_of(&fence));
                let mut term = term.unwrap_or_else(|| Lead::new(Arc::clone(&desk), fence));
                term.round().await;
                lead = Some(term);
            }
        }
        if measured.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            measured = Some(Instant::now());
            desk.measure();
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = views.changed() => {}
            Ok(()) = leadership.changed() => {}
        }
    }
}
