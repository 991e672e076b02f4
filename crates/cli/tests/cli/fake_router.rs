//! A router that keeps its registry in a mutex and answers by a rule that a test can know.

pub(crate) mod rollouts;
mod scribe;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use understudy_protocol::{
    metadata, status,
    v1::{
        analyst_server::{Analyst, AnalystServer},
        classify_stream_response::Result as Answered,
        models_server::{Models, ModelsServer},
        rollouts_server::RolloutsServer,
        routes_server::{Routes, RoutesServer},
        scribe_server::ScribeServer,
        *,
    },
};

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) models: BTreeMap<String, ModelSummary>,
    pub(crate) workers: Vec<WorkerStatus>,
    pub(crate) disconnected: bool,
    pub(crate) store: String,
    /// Requests to each arm since the route was set.
    pub(crate) traffic: BTreeMap<String, u64>,
    /// How many of the next calls fail with UNAVAILABLE.
    pub(crate) unavailable: u32,
    /// Calls of Analyst, with the texts that each had.
    pub(crate) calls: Vec<Vec<String>>,
    pub(crate) token: Option<String>,
    /// Gives one request too many to the first arm.
    pub(crate) skewed: bool,
    /// How many of the next streams of Analyst break after three answers.
    pub(crate) breaking: u32,
    /// Texts that streams of Analyst brought, with the draw of each stream.
    pub(crate) streams: Vec<(Option<String>, Vec<String>)>,
    /// What the next critiques are; then they are of one sentence.
    pub(crate) critiques: VecDeque<Vec<Result<WriteCritiqueResponse, Status>>>,
    /// Critiques that were asked for, with the draw of each.
    pub(crate) sheets: Vec<(Option<String>, WriteCritiqueRequest)>,
    /// Answers that were asked for.
    pub(crate) questions: Vec<GenerateRequest>,
    /// Answers whose reader went away.
    pub(crate) cancelled: u32,
    pub(crate) rollouts: BTreeMap<String, (Rollout, Live)>,
    /// What the next watch of a rollout is told; an error ends its stream.
    pub(crate) course: VecDeque<Result<(Rollout, Live), Status>>,
    /// Rollouts that were asked for.
    pub(crate) started: Vec<StartRolloutRequest>,
    /// What the next one is told.
    pub(crate) refusal: Option<Status>,
    /// What operators asked of rollouts.
    pub(crate) commands: Vec<String>,
    pub(crate) disagreements: Vec<Disagreement>,
    pub(crate) aborted_locally: bool,
}

#[derive(Clone, Default)]
pub(crate) struct FakeRouter {
    state: Arc<Mutex<State>>,
    url: String,
}

impl FakeRouter {
    /// With one model `sentiment` of versions v1 and v2, all traffic on v1, and one worker that has v1 ready.
    pub(crate) async fn start() -> Self {
        let version = |version: &str| Manifest {
            format: 1,
            model: "sentiment".into(),
            version: version.into(),
            kind: Kind::Analyst.into(),
            labels: vec!["negative".into(), "positive".into()],
            ..Manifest::default()
        };
        let fake = Self::empty("127.0.0.1:0".parse().unwrap()).await;
        {
            let mut state = fake.state();
            let versions = vec![version("v1"), version("v2")];
            let summary = ModelSummary {
                model: "sentiment".into(),
                versions,
                route: None,
            };
            state.models.insert("sentiment".into(), summary);
            state.set_route(vec![arm("stable", "v1", 1_000_000)]);
            state.workers = vec![worker("analyst-1", &[("v1", ResidencyState::Ready, "")])];
        }
        fake
    }

    pub(crate) async fn empty(listen: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { url, ..Self::default() };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        let server = Server::builder()
            .add_service(health)
            .add_service(AnalystServer::new(fake.clone()))
            .add_service(ScribeServer::new(fake.clone()))
            .add_service(ModelsServer::new(fake.clone()))
            .add_service(RoutesServer::new(fake.clone()))
            .add_service(RolloutsServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        fake
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn check_token<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let wanted = self.state().token.as_ref().map(|token| format!("Bearer {token}"));
        let given = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        if wanted == given {
            Ok(())
        } else {
            Err(Status::unauthenticated(""))
        }
    }

    fn answer<T>(
        &self,
        request: &MetadataAnd<Vec<String>>,
        make: impl FnOnce(Vec<Classification>) -> T,
    ) -> Result<Response<T>, Status> {
        let mut state = self.state();
        let texts = &request.1;
        state.calls.push(texts.clone());
        if state.unavailable > 0 {
            state.unavailable -= 1;
            return Err(status::retry_later(
                Code::Unavailable,
                "no worker is ready",
                Duration::from_millis(10),
            ));
        }
        if let Some(model) = request.0.get(metadata::MODEL)
            && !state.models.contains_key(model.to_str().unwrap())
        {
            return Err(Status::not_found(format!(
                "there is no model {}",
                model.to_str().unwrap()
            )));
        }
        let unary = texts.len() == 1;
        if let Some(bad) = texts.iter().position(|text| text.trim().is_empty()) {
            let field = if unary {
                "text".to_owned()
            } else {
                format!("texts[{bad}]")
            };
            return Err(status::bad_request(&field, "must not be empty"));
        }
        let route = state.models["sentiment"].route.clone().unwrap();
        let pinned = request
            .0
            .get(metadata::VERSION)
            .map(|version| version.to_str().unwrap().to_owned());
        let arm = match pinned {
            Some(version) => route.arms.iter().find(|arm| arm.version == version).unwrap(),
            None => state.next_arm(&route),
        };
        let mut response = Response::new(make(texts.iter().map(|text| classify(text, &arm.version)).collect()));
        let map = response.metadata_mut();
        map.insert(metadata::VERSION, arm.version.parse().unwrap());
        map.insert(metadata::ARM, arm.name.parse().unwrap());
        Ok(response)
    }
}

/// What is good is positive; `tricky` turns it round for v2; a `shade` makes it less sure.
fn classify(text: &str, version: &str) -> Classification {
    let positive = text.contains("good") != (version == "v2" && text.contains("tricky"));
    let class = |label: &str, probability| ClassProbability {
        label: label.into(),
        probability,
    };
    let confidence = if text.contains("shade") { 0.55 } else { 0.75 };
    let share = if positive { confidence } else { 1.0 - confidence };
    Classification {
        label: if positive { "positive" } else { "negative" }.into(),
        confidence,
        probabilities: vec![class("negative", 1.0 - share), class("positive", share)],
        token_count: 5,
        truncated: text.contains("endless"),
        version: version.to_owned(),
    }
}

fn draw_of<T>(request: &Request<T>) -> Option<String> {
    let draw = request.metadata().get(metadata::DRAW)?;
    Some(draw.to_str().unwrap().to_owned())
}

pub(crate) use self::scribe::{attempt, finish, number, piece};

type MetadataAnd<T> = (tonic::metadata::MetadataMap, T);

impl State {
    pub(crate) fn set_route(&mut self, arms: Vec<Arm>) {
        self.set_route_of("sentiment", arms);
    }

    fn set_route_of(&mut self, model: &str, arms: Vec<Arm>) {
        let summary = self.models.get_mut(model).unwrap();
        let epoch = summary.route.as_ref().map_or(0, |route| route.epoch) + 1;
        let pinning = Pinning::Allowed.into();
        summary.route = Some(Route {
            model: model.into(),
            kind: summary.versions[0].kind,
            epoch,
            arms,
            pinning,
            ..Route::default()
        });
        self.traffic.clear();
    }

    /// The arm that is furthest behind its share.
    fn next_arm<'a>(&mut self, route: &'a Route) -> &'a Arm {
        let total: u64 = self.traffic.values().sum::<u64>() + 1;
        let behind = |arm: &Arm| {
            let got = self.traffic.get(&arm.name).copied().unwrap_or_default();
            i128::from(arm.weight_ppm) * i128::from(total) - i128::from(got) * 1_000_000
        };
        let fair = route.arms.iter().max_by_key(|arm| behind(arm)).unwrap();
        let arm = if self.skewed && total <= 20 {
            &route.arms[0]
        } else {
            fair
        };
        *self.traffic.entry(arm.name.clone()).or_default() += 1;
        arm
    }
}

pub(crate) fn arm(name: &str, version: &str, weight_ppm: u32) -> Arm {
    Arm {
        name: name.into(),
        version: version.into(),
        weight_ppm,
    }
}

pub(crate) fn worker(name: &str, held: &[(&str, ResidencyState, &str)]) -> WorkerStatus {
    let versions = held.iter().map(|(version, state, reason)| Residency {
        model: "sentiment".into(),
        version: (*version).into(),
        state: (*state).into(),
        reason: (*reason).into(),
    });
    let worker = Worker {
        worker: name.into(),
        kind: Kind::Analyst.into(),
        address: "http://127.0.0.1:8480".into(),
        versions: versions.collect(),
        engine: "cpu".into(),
    };
    WorkerStatus {
        worker: Some(worker),
        in_flight: 0,
        ejected: false,
    }
}

#[tonic::async_trait]
impl Analyst for FakeRouter {
    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        self.check_token(&request)?;
        let (map, _, message) = request.into_parts();
        self.answer(&(map, vec![message.text]), |mut all| ClassifyResponse {
            classification: all.pop(),
        })
    }

    async fn classify_batch(
        &self,
        request: Request<ClassifyBatchRequest>,
    ) -> Result<Response<ClassifyBatchResponse>, Status> {
        self.check_token(&request)?;
        let (map, _, message) = request.into_parts();
        self.answer(&(map, message.texts), |classifications| ClassifyBatchResponse {
            classifications,
        })
    }

    type ClassifyStreamStream = tokio_stream::Iter<std::vec::IntoIter<Result<ClassifyStreamResponse, Status>>>;

    async fn classify_stream(
        &self,
        request: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        self.check_token(&request)?;
        let draw = draw_of(&request);
        let mut requests = request.into_inner();
        let mut texts = Vec::new();
        while let Some(request) = requests.message().await? {
            texts.push(request.text);
        }
        let mut state = self.state();
        state.streams.push((draw, texts.clone()));
        if state.unavailable > 0 {
            state.unavailable -= 1;
            return Err(status::retry_later(
                Code::Unavailable,
                "no worker is ready",
                Duration::from_millis(10),
            ));
        }
        let route = state.models["sentiment"].route.clone().unwrap();
        let arm = state.next_arm(&route);
        let answer = |(index, text): (usize, &String)| {
            let refusal = |message: &str| {
                Answered::Refusal(Refusal {
                    code: Code::InvalidArgument.into(),
                    message: message.into(),
                })
            };
            let result = match text.as_str() {
                blank if blank.trim().is_empty() => refusal("text: must not be empty"),
                long if long.chars().count() > 10_000 => refusal("text: is too long"),
                text if text.contains("forbidden") => refusal("text: I will not read this"),
                text => Answered::Classification(classify(text, &arm.version)),
            };
            Ok(ClassifyStreamResponse {
                index: index as u64,
                result: Some(result),
            })
        };
        let mut answers: Vec<_> = texts.iter().enumerate().map(answer).collect();
        if state.breaking > 0 {
            state.breaking -= 1;
            answers.truncate(3);
            answers.push(Err(Status::unavailable("the worker went away")));
        }
        Ok(Response::new(tokio_stream::iter(answers)))
    }

    async fn get_model_info(&self, _: Request<GetModelInfoRequest>) -> Result<Response<ModelInfo>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

#[tonic::async_trait]
impl Models for FakeRouter {
    async fn get_artifact_store(
        &self,
        _: Request<GetArtifactStoreRequest>,
    ) -> Result<Response<GetArtifactStoreResponse>, Status> {
        Ok(Response::new(GetArtifactStoreResponse {
            uri: self.state().store.clone(),
        }))
    }

    async fn publish_version(
        &self,
        request: Request<PublishVersionRequest>,
    ) -> Result<Response<PublishVersionResponse>, Status> {
        let manifest = request.into_inner().manifest.unwrap();
        let mut state = self.state();
        let summary = state.models.entry(manifest.model.clone()).or_default();
        summary.model = manifest.model.clone();
        summary.versions.push(manifest);
        Ok(Response::new(PublishVersionResponse {}))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        self.check_token(&request)?;
        if self.state().disconnected {
            return Err(Status::unavailable("the registry does not answer"));
        }
        Ok(Response::new(ListModelsResponse {
            models: self.state().models.values().cloned().collect(),
        }))
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        let GetVersionRequest { model, version } = request.into_inner();
        let state = self.state();
        let found = state
            .models
            .get(&model)
            .and_then(|all| all.versions.iter().find(|found| found.version == version));
        match found {
            Some(manifest) => Ok(Response::new(GetVersionResponse {
                manifest: Some(manifest.clone()),
                workers: vec![],
            })),
            None => Err(Status::not_found(format!("there is no version {version} of {model}"))),
        }
    }
}

#[tonic::async_trait]
impl Routes for FakeRouter {
    async fn set_route(&self, request: Request<SetRouteRequest>) -> Result<Response<SetRouteResponse>, Status> {
        let SetRouteRequest { route, expected_epoch } = request.into_inner();
        let route = route.unwrap();
        let mut state = self.state();
        let current = state.models[&route.model].route.as_ref().map_or(0, |route| route.epoch);
        if expected_epoch.is_some_and(|expected| expected != current) {
            return Err(Status::aborted(format!("the route has epoch {current}")));
        }
        state.set_route_of(&route.model, route.arms);
        let summary = state.models.get_mut(&route.model).unwrap();
        summary.route.as_mut().unwrap().pinning = route.pinning;
        Ok(Response::new(SetRouteResponse {
            route: summary.route.clone(),
        }))
    }

    async fn get_route(&self, request: Request<GetRouteRequest>) -> Result<Response<GetRouteResponse>, Status> {
        let state = self.state();
        let route = state
            .models
            .get(&request.into_inner().model)
            .and_then(|model| model.route.clone());
        let Some(route) = route else {
            return Err(Status::not_found("there is no such route"));
        };
        let ready = |version: &str| {
            let held = state
                .workers
                .iter()
                .flat_map(|status| &status.worker.as_ref().unwrap().versions);
            held.filter(|held| held.version == version && held.state() == ResidencyState::Ready)
                .count()
        };
        let traffic = route.arms.iter().map(|arm| ArmTraffic {
            arm: arm.name.clone(),
            requests: state.traffic.get(&arm.name).copied().unwrap_or_default(),
            failures: 0,
            ready_workers: ready(&arm.version).try_into().unwrap(),
        });
        Ok(Response::new(GetRouteResponse {
            traffic: traffic.collect(),
            route: Some(route),
            aborted_locally: state.aborted_locally,
        }))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        let state = self.state();
        let registry_connected = !state.disconnected;
        Ok(Response::new(ListWorkersResponse {
            workers: state.workers.clone(),
            registry_connected,
        }))
    }
}
