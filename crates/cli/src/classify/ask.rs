//! One batch of texts: asks, retries what may be retried, and tells a bad text from a failed call.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use tonic_types::StatusExt as _;
use understudy_protocol::{
    metadata,
    v1::{Classification, ClassifyBatchRequest, ClassifyRequest, analyst_client::AnalystClient},
};

use crate::{
    problem::sentence,
    publish::checked_name,
    retry::Retry,
    router::{Router, Transport},
};

/// Texts in one call.
pub(super) const BATCH_MAX: usize = 16;
/// Calls in flight.
pub(super) const CALLS_MAX: usize = 8;

/// Which version answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct CallOptions {
    /// Model to ask [default: the only one]
    #[arg(long, value_parser = checked_name)]
    model: Option<String>,
    /// Version that must answer, one of the route's
    #[arg(long, value_name = "VERSION", value_parser = checked_name)]
    pub(crate) pin: Option<String>,
    /// Stay with the version that this key falls to
    #[arg(long, value_name = "KEY")]
    pub(crate) affinity: Option<String>,
}

impl CallOptions {
    /// The model that was named.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The metadata of each call.
    pub(crate) fn metadata(&self) -> anyhow::Result<MetadataMap> {
        let mut map = MetadataMap::new();
        let all = [
            (metadata::MODEL, &self.model),
            (metadata::VERSION, &self.pin),
            (metadata::AFFINITY, &self.affinity),
        ];
        for (key, value) in all {
            if let Some(value) = value {
                let value: MetadataValue<Ascii> =
                    value.parse().with_context(|| format!("{key} cannot be {value:?}"))?;
                map.insert(key, value);
            }
        }
        Ok(map)
    }
}

/// Why a text got no answer although the call worked.
#[derive(Debug, Clone)]
pub(super) struct Refused(pub(super) String);

pub(super) type Answer = Result<Classification, Refused>;

/// Asks a router.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    client: AnalystClient<Transport>,
    metadata: MetadataMap,
    timeout: Duration,
    patient: bool,
}

impl Asker {
    pub(super) fn new(router: &Router, options: &CallOptions, timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            client: router.analyst(),
            metadata: options.metadata()?,
            timeout,
            patient: false,
        })
    }

    /// Sits out the restart of a router.
    pub(super) fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// One answer for each text, in order. A bad text is refused alone.
    pub(super) async fn ask(&self, texts: &[String]) -> anyhow::Result<Vec<Answer>> {
        let batch = self.retried(|mut client| async move {
            let request = self.request(ClassifyBatchRequest { texts: texts.to_vec() });
            client.classify_batch(request).await
        });
        match batch.await {
            Ok(answer) => {
                let answers = answer.classifications;
                anyhow::ensure!(
                    answers.len() == texts.len(),
                    "{} texts got {} answers",
                    texts.len(),
                    answers.len()
                );
                Ok(answers.into_iter().map(Ok).collect())
            }
            Err(status) if is_about_a_text(&status) => {
                let mut answers = Vec::with_capacity(texts.len());
                for text in texts {
                    answers.push(self.ask_alone(text).await?);
                }
                Ok(answers)
            }
            Err(status) => anyhow::bail!(sentence(&status)),
        }
    }

    async fn ask_alone(&self, text: &str) -> anyhow::Result<Answer> {
        let answer = self.retried(|mut client| async move {
            client
                .classify(self.request(ClassifyRequest { text: text.to_owned() }))
                .await
        });
        match answer.await {
            Ok(answer) => Ok(Ok(answer
                .classification
                .context("the router sent an answer without classification")?)),
            Err(status) if is_about_a_text(&status) => Ok(Err(Refused(sentence(&status)))),
            Err(status) => anyhow::bail!(sentence(&status)),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(self.timeout);
        request
    }

    async fn retried<T, F>(&self, call: impl Fn(AnalystClient<Transport>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut retry = if self.patient { Retry::patient() } else { Retry::new() };
        loop {
            match call(self.client.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => retry.wait(status).await?,
            }
        }
    }
}

/// The fields `text`, `texts` and `texts[3]` are texts; others are the model or the version.
fn is_about_a_text(status: &Status) -> bool {
    let is_text = |field: &str| field == "text" || field == "texts" || field.starts_with("texts[");
    status.code() == Code::InvalidArgument
        && status
            .get_details_bad_request()
            .is_some_and(|bad| bad.field_violations.iter().any(|v| is_text(&v.field)))
}
