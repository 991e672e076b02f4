//! A rollout's route, set by hand, and what the router tells of it.

use std::time::Duration;

use tokio_stream::StreamExt as _;
use understudy_protocol::v1::{
    ClassifyBatchRequest, ClassifyStreamRequest, Disagreement, LabelCard, ListDisagreementsRequest, Route, Scorecard,
    Shadow, ShadowCard, Slice, classify_stream_response, rollouts_client::RolloutsClient,
};

use crate::kit::{Client, Cluster, FakeWorker, MODEL, route};

/// A stable version on one worker and a candidate on another.
pub struct Trial {
    pub cluster: Cluster,
    pub stable: FakeWorker,
    pub candidate: FakeWorker,
    pub client: Client,
}

/// Nothing is mirrored.
pub const NO_SHADOW: Option<Shadow> = None;

pub fn shadow(sample_ppm: u32, noise_ppm: u32) -> Option<Shadow> {
    Some(Shadow {
        arm: "candidate".into(),
        sample_ppm,
        noise_ppm,
        keep_text: false,
    })
}

impl Trial {
    pub async fn start(weight_ppm: u32, shadow: Option<Shadow>) -> Self {
        let cluster = Cluster::start(&[]).await;
        let stable = cluster.worker("w1", &["v1"]).await;
        let candidate = cluster.worker("w2", &["v2"]).await;
        let client = cluster.client().await;
        let trial = Self {
            cluster,
            stable,
            candidate,
            client,
        };
        trial.weigh(1, weight_ppm, shadow).await;
        trial.cluster.ready(&[1, 1]).await;
        trial
    }

    /// Sets the route of this epoch and waits until the router counts under it.
    pub async fn weigh(&self, epoch: u64, weight_ppm: u32, shadow: Option<Shadow>) {
        let arms = [
            ("stable", "v1", 1_000_000 - weight_ppm),
            ("candidate", "v2", weight_ppm),
        ];
        let route = Route {
            epoch,
            rollout: 1,
            shadow,
            ..route(&arms)
        };
        let registry = self.cluster.registry.client().await;
        let before = registry.route(MODEL).await.unwrap();
        let revision = before.map_or(0, |before| before.mod_revision);
        registry.put_route(&route, revision).await.unwrap();
        self.card(|card| card.epoch == epoch).await;
    }

    /// The router's scorecard, once it is so.
    pub async fn card(&self, is_so: impl Fn(&Scorecard) -> bool) -> Scorecard {
        let registry = self.cluster.registry.client().await;
        let mut card = None;
        for _ in 0..400 {
            let listing = registry.list::<Scorecard>().await.unwrap();
            card = listing.records.into_values().next().map(|stored| stored.value);
            if let Some(card) = card.clone().filter(&is_so) {
                return card;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it is not so: {card:#?}");
    }

    /// The card, once this many mirrored requests are done with.
    pub async fn mirrored(&self, chosen: u64) -> ShadowCard {
        let done = |card: &ShadowCard| card.too_large + card.no_place + card.busy + card.candidate_errors + card.pairs;
        let so = |card: &Scorecard| shadow_of(card).chosen == chosen && done(&shadow_of(card)) == chosen;
        shadow_of(&self.card(so).await)
    }

    pub async fn disagreements(&self) -> Vec<Disagreement> {
        let mut rollouts = RolloutsClient::new(self.cluster.channel().await);
        let request = ListDisagreementsRequest {
            model: MODEL.into(),
            limit: 0,
        };
        rollouts
            .list_disagreements(request)
            .await
            .unwrap()
            .into_inner()
            .disagreements
    }

    pub async fn batch(&mut self, texts: &[&str]) -> Vec<String> {
        let texts = texts.iter().map(|&text| text.into()).collect();
        let answer = self
            .client
            .0
            .classify_batch(ClassifyBatchRequest { texts })
            .await
            .unwrap();
        let classifications = answer.into_inner().classifications;
        classifications.into_iter().map(|answer| answer.label).collect()
    }

    pub async fn stream(&mut self, texts: &[&str]) -> Vec<String> {
        let texts: Vec<_> = texts
            .iter()
            .map(|&text| ClassifyStreamRequest { text: text.into() })
            .collect();
        let answer = self.client.0.classify_stream(tokio_stream::iter(texts)).await.unwrap();
        let label = |result| match result {
            Some(classify_stream_response::Result::Classification(classification)) => classification.label,
            other => panic!("{other:?}"),
        };
        answer
            .into_inner()
            .map(|answer| label(answer.unwrap().result))
            .collect()
            .await
    }
}

pub fn slice_of(card: &Scorecard) -> Slice {
    card.slice.clone().unwrap()
}

pub fn shadow_of(card: &Scorecard) -> ShadowCard {
    card.shadow.clone().unwrap()
}

pub fn labels_of(card: &Scorecard) -> LabelCard {
    card.labels.unwrap()
}

/// Requests of both arms.
pub fn requests(card: &Scorecard) -> (u64, u64) {
    let slice = slice_of(card);
    (slice.stable.unwrap().requests, slice.candidate.unwrap().requests)
}
