use understudy_protocol::v1::{Live, Rollout};

use crate::controller::{
    Desk,
    record::{labels_to, report_to, rollout_from, shadow_to, slice_to},
};

/// What is known of a rollout now, from all routers; `None` if its record cannot be used.
pub(super) fn live(desk: &Desk, record: &Rollout) -> Option<Live> {
    let rollout = rollout_from(record).ok()?;
    let routes = desk.views.routes.view();
    let observation = desk.observe(record, &rollout, routes.records.get(&record.model));
    Some(Live {
        slice: Some(slice_to(&observation.live)),
        shadow: Some(shadow_to(&observation.evidence(&rollout).shadow)),
        labels: Some(labels_to(observation.labels)),
        gates: rollout.reports(&observation).iter().map(report_to).collect(),
        routers: observation.routers,
        routers_current: observation.routers_current,
        stable_ready: observation.stable_ready,
        candidate_ready: observation.candidate_ready,
        leader: desk.leader(),
        waiting_for: rollout.waiting_for(&observation),
        aborted_locally: desk.state.load().aborted.contains(&record.model),
    })
}
