//! The leader dies, the registry goes away, and rollouts go on.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use understudy_protocol::v1::{AbortRolloutRequest, GetRouteRequest, Phase, PromoteRolloutRequest, Rollout, Route};

use crate::{
    kit::MODEL,
    rollout::{Cut, Peer, Stage, Traffic, canary, course, eventually, record, status, told},
};

/// The transitions of a canary with two steps; the first is the operator's.
const COURSE: [(Phase, u32); 11] = [
    (Phase::Loading, 0),
    (Phase::Shifting, 0),
    (Phase::Baking, 0),
    (Phase::Judging, 0),
    (Phase::Shifting, 1),
    (Phase::Baking, 1),
    (Phase::Judging, 1),
    (Phase::Promoting, 0),
    (Phase::Watching, 0),
    (Phase::Standby, 0),
    (Phase::Done, 0),
];

/// Kills the leader at each transition, on its way to the registry or after it arrived there.
async fn kill_the_leader_at_each_transition(arrives: bool) {
    let mut stage = Stage::start(2).await;
    let mut traffic = Traffic::start(&stage.peers).await;
    let registry = stage.registry.client().await;
    let weights: Arc<Mutex<Vec<(u64, u32)>>> = Arc::default();
    let (mut routes, noted) = (registry.follow::<Route>(), Arc::clone(&weights));
    let watch = tokio::spawn(async move {
        loop {
            if let Some(route) = routes.view().records.get(MODEL) {
                let candidate = route.arms.iter().find(|arm| arm.version == "v2");
                noted
                    .lock()
                    .unwrap()
                    .push((route.epoch, candidate.map_or(0, |arm| arm.weight_ppm)));
            }
            routes.changed().await;
        }
    });
    stage.cut_at(cut(COURSE.first(), arrives));
    let mut spec = canary("v2", &[100_000, 500_000], 100);
    // So that no step is left before the router that takes the dead one's place is there.
    spec.steps.iter_mut().for_each(|step| step.manual = true);
    stage.first().begin(spec).await.unwrap();
    let mut expected = vec![(Phase::Pending, 0)];
    for (index, (phase, step)) in COURSE.into_iter().enumerate() {
        let mut dead = stage.cut(&format!("{phase:?} {step}")).await;
        // Who leads next shall die at the next one.
        stage.cut_at(cut(COURSE.get(index + 1), arrives));
        let is_there = |record: &Rollout| (status(record).phase(), status(record).step) == (phase, step);
        if arrives {
            let what = format!("{phase:?} {step} of {} arrived", dead.name);
            eventually(&what, async || is_there(&record(&registry).await)).await;
        } else {
            assert!(!is_there(&record(&registry).await), "it arrived");
        }
        traffic.leave(&dead.name).await;
        dead.kill();
        stage.peer(&format!("r{}", index + 2)).await;
        let peer = stage.peers.last().unwrap();
        traffic.through(peer).await;
        expected.push((phase, step));
        if phase == Phase::Judging {
            let promote = PromoteRolloutRequest {
                model: MODEL.into(),
                ..PromoteRolloutRequest::default()
            };
            let mut rollouts = peer.rollouts().await;
            eventually("the gate is opened", async || {
                rollouts.promote_rollout(promote.clone()).await.is_ok()
            })
            .await;
            expected.push((phase, step));
        }
    }
    let record = stage.reaches(Phase::Done).await;
    assert_eq!(course(&record), expected, "each transition once: {:#?}", told(&record));
    assert_eq!(stage.weights().await, [("v2".to_owned(), 1_000_000)].into());
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    watch.abort();
    let mut weights = weights.lock().unwrap().clone();
    weights.dedup();
    assert!(weights.is_sorted_by_key(|(epoch, _)| *epoch), "{weights:?}");
    assert!(
        weights.is_sorted_by_key(|(_, weight)| *weight),
        "a weight went backwards: {weights:?}"
    );
}

/// Where this transition is written.
fn cut(transition: Option<&(Phase, u32)>, arrives: bool) -> Option<Cut> {
    let (phase, step) = transition?;
    let phase = format!("\"status\": {{\n    \"phase\": \"{}\",\n    ", phase.as_str_name());
    let word = match step {
        0 => format!("{phase}\"elapsed\""),
        step => format!("{phase}\"step\": {step},"),
    };
    Some(Cut { word, arrives })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_right_before_each_transition() {
    kill_the_leader_at_each_transition(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_right_after_each_transition() {
    kill_the_leader_at_each_transition(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_away_during_a_canary() {
    let mut stage = Stage::start(2).await;
    let traffic = Traffic::start(&stage.peers).await;
    stage
        .first()
        .begin(canary("v2", &[200_000, 500_000], 1_500))
        .await
        .unwrap();
    stage.reaches(Phase::Baking).await;
    stage.registry.kill();
    // Until what was on its way has ended.
    tokio::time::sleep(Duration::from_millis(100)).await;
    traffic.take();
    // Longer than all leases, and than all the holds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let seen = traffic.take();
    let share = seen.of("v2") as f64 / (seen.of("v1") + seen.of("v2")) as f64;
    assert!((0.19..0.21).contains(&share), "the weights stay: {seen:?}");
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    stage.registry.restart().await;
    let record = stage.reaches(Phase::Done).await;
    assert!(course(&record).contains(&(Phase::Shifting, 1)), "{:#?}", told(&record));
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_reaches_all_routers_within_a_second() {
    const ROLLBACKS: usize = 50;
    let stage = Stage::start(2).await;
    let (mut commanded, mut decided) = (Vec::new(), Vec::new());
    for number in 0..ROLLBACKS {
        let peer = &stage.peers[number % 2];
        peer.begin(canary("v2", &[500_000], 60_000)).await.unwrap();
        stage.reaches(Phase::Baking).await;
        let mut rollouts = stage.peers[(number + number / 2) % 2].rollouts().await;
        let request = AbortRolloutRequest {
            model: MODEL.into(),
            reason: "measured".into(),
            local: false,
        };
        let command = Instant::now();
        let abort = async {
            rollouts.abort_rollout(request).await.unwrap();
            command.elapsed()
        };
        let (written, first, second) = tokio::join!(
            abort,
            gives_all_to_stable(&stage.peers[0], command),
            gives_all_to_stable(&stage.peers[1], command),
        );
        commanded.push(first.max(second));
        decided.push(first.max(second).saturating_sub(written));
        stage.reaches(Phase::RolledBack).await;
    }
    let quantiles = |times: &mut Vec<Duration>| {
        times.sort();
        [ROLLBACKS / 2, ROLLBACKS * 99 / 100].map(|index| times[index])
    };
    let ([p50, p99], late) = (quantiles(&mut decided), quantiles(&mut commanded));
    println!(
        "rollback on all of two routers: p50 {p50:?}, p99 {p99:?} after it was decided; p50 {:?}, p99 {:?} after the command; of \
         {ROLLBACKS}",
        late[0], late[1]
    );
    assert!(p99 < Duration::from_secs(1), "{decided:?}");
}

/// How long after the command this router serves the stable version only.
async fn gives_all_to_stable(peer: &Peer, command: Instant) -> Duration {
    let mut routes = peer.routes().await;
    loop {
        let request = GetRouteRequest { model: MODEL.into() };
        let answer = routes.get_route(request).await.unwrap().into_inner();
        let route = answer.route.unwrap();
        // Traffic is told only of the route that is served.
        if route.arms[0].weight_ppm == 1_000_000 && answer.traffic.len() == route.arms.len() {
            return command.elapsed();
        }
        assert!(command.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
