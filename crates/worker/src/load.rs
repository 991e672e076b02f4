//! Makes one version ready, and frees one.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use understudy_artifacts::{Cache, Tree};
use understudy_registry::Registry;

use crate::{
    Loader, Manifest, Resident,
    loader::LoadError,
    metrics::{Metrics, Stage},
    residency::{Failure, Id},
};

/// On Linux a thread has a niceness of its own, which threads that it starts inherit.
const LOAD_NICENESS: i32 = 15;
/// Engines are written for a main thread's stack.
const STACK_BYTES: usize = 8 << 20;
/// How often a version that drains is looked at.
const HOLDERS_POLL: Duration = Duration::from_millis(20);

/// Where versions come from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) registry: Registry,
    pub(crate) cache: Cache,
    pub(crate) metrics: Metrics,
}

impl Source {
    /// Manifest → fetch → verify → load.
    pub(crate) async fn load<L: Loader>(self, loader: Arc<L>, id: Id) -> Result<Resident<L::Loaded>, Failure> {
        let manifest = self.stage(Stage::Manifest, self.manifest::<L>(&id)).await?;
        let tree = self.stage(Stage::Fetch, self.fetch(&manifest)).await?;
        let loaded = self.stage(Stage::Load, load(loader, manifest, tree.clone())).await?;
        Ok(Resident::new(id, loaded, tree))
    }

    async fn stage<T>(&self, stage: Stage, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let start = Instant::now();
        let result = work.await;
        match &result {
            Ok(_) => self.metrics.took(stage, start.elapsed()),
            Err(_) => self.metrics.failed(stage),
        }
        result
    }

    async fn manifest<L: Loader>(&self, id: &Id) -> Result<Manifest, Failure> {
        let failure = |reason: String, retry| Failure { reason, retry };
        let manifest = match self.registry.manifest(&id.model, &id.version).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let reason = format!("{id} is routed but was never published; publish it or correct the route");
                return Err(failure(reason, true));
            }
            // Manifests are immutable: a bad one stays bad.
            Err(error @ understudy_registry::Error::Invalid { .. }) => return Err(failure(error.to_string(), false)),
            Err(error) => return Err(failure(error.to_string(), true)),
        };
        let manifest = Manifest::try_from(manifest).map_err(|error| failure(error.to_string(), false))?;
        if manifest.kind != L::KIND {
            let (found, expected) = (manifest.kind.as_str_name(), L::KIND.as_str_name());
            return Err(failure(
                format!("{id} is of {found}, but its route and this worker are of {expected}"),
                false,
            ));
        }
        Ok(manifest)
    }

    async fn fetch(&self, manifest: &Manifest) -> Result<Tree, Failure> {
        self.cache
            .fetch(&manifest.artifact_uri, &manifest.files, |_, _| {})
            .await
            .map_err(|error| Failure {
                reason: error.to_string(),
                retry: !error.is_permanent(),
            })
    }
}

/// On a thread of its own: engines leave settings in thread-local state, which the next user of a pool's thread would meet.
async fn load<L: Loader>(loader: Arc<L>, manifest: Manifest, tree: Tree) -> Result<L::Loaded, Failure> {
    let (send, result) = oneshot::channel();
    let work = move || {
        // Requests come first: on a busy machine a version may take longer to load, but answers may not take longer.
        if let Err(error) = rustix::process::setpriority_process(None, LOAD_NICENESS) {
            tracing::debug!(%error, "loading runs at the priority of everything else");
        }
        let attempt = catch_unwind(AssertUnwindSafe(|| loader.load(&manifest, tree.path())));
        let loaded = match attempt {
            Ok(result) => result.map_err(|error| chain(&error)),
            Err(panic) => Err(format!("loading panicked: {}", panic_text(panic.as_ref()))),
        };
        if loaded.is_err() {
            loader.freed();
        }
        // Nobody waits any more when the process is stopping.
        let _ = send.send(loaded);
    };
    let failure = |reason: String| Failure { reason, retry: false };
    let thread = std::thread::Builder::new()
        .name("load".into())
        .stack_size(STACK_BYTES)
        .spawn(work);
    thread.map_err(|error| failure(format!("cannot start a thread to load it: {error}")))?;
    match result.await {
        Ok(result) => result.map_err(failure),
        Err(_) => Err(failure("loading ended without a result".into())),
    }
}

/// Waits until nobody holds the version, then drops it and lets the engine give memory back.
pub(crate) async fn free<L: Loader>(loader: Arc<L>, resident: Resident<L::Loaded>, drain_timeout: Duration) {
    let deadline = Instant::now() + drain_timeout;
    let mut late = false;
    while !resident.is_last() {
        if !late && Instant::now() >= deadline {
            late = true;
            tracing::warn!(
                model = resident.model(),
                version = resident.version(),
                "requests still hold a version after the drain timeout; streams are told to end"
            );
            resident.expire();
        }
        tokio::time::sleep(HOLDERS_POLL).await;
    }
    let dropped = tokio::task::spawn_blocking(move || {
        drop(resident);
        loader.freed();
    });
    if let Err(error) = dropped.await {
        tracing::error!(%error, "freeing a version failed");
    }
}

/// An error with its causes, each text once: some errors repeat their cause's.
fn chain(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
