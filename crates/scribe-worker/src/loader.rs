//! From a version's file to an engine that is ready.
//!
//! ```text
//! the one *.gguf ─► checked ─► sizes that fit into memory ─► tried in a child ─► loaded, warm ─► ready
//! ```

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use understudy_protocol::v1::Kind;
use understudy_worker::{LoadError, Manifest};

use crate::{
    backend::{Backend, Place},
    engine::{Engine, EngineError, Gauges, Generation, Info, Stream},
    job::{Job, Queued},
    memory::{MOVED_MAX, Needs, available, physical_cores, sizes},
    model::Model,
    options::EngineOptions,
    probe::Probe,
    runner::{Runner, Setup},
    spare::Clients,
};

/// Pause before an engine starts over, so that one that dies at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// How often copies that wait for capacity to spare look for it.
const SPARE_POLL: Duration = Duration::from_millis(2);

/// Most streams of one version; llama.cpp knows at most 256 sequences.
pub const SLOTS_MAX: u32 = 64;

/// Loads versions.
#[derive(Debug)]
pub struct ScribeLoader {
    backend: &'static Backend,
    place: Place,
    options: EngineOptions,
    probe: Probe,
    clients: Clients,
}

/// A version that is ready to answer.
pub struct Loaded {
    model: Arc<Model>,
    gauges: Arc<Gauges>,
    queue_depth_max: u32,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl ScribeLoader {
    /// Starts llama.cpp. `binary` tries files: this one, or in tests the one that was built with them.
    ///
    /// # Errors
    /// Bad options, or no module of llama.cpp for this machine.
    pub fn new(options: EngineOptions, binary: PathBuf) -> anyhow::Result<Self> {
        let (slots, batch) = (options.slots.get(), options.batch_tokens.get());
        anyhow::ensure!(
            slots <= SLOTS_MAX,
            "--slots {slots} is more than {SLOTS_MAX}; lower it and add workers"
        );
        anyhow::ensure!(
            (slots..=4096).contains(&batch),
            "--batch-tokens {batch} must be between --slots {slots} and 4096: every stream has a token in it"
        );
        let backend = Backend::get()?;
        let place = backend.place(options.device)?;
        Ok(Self {
            backend,
            place,
            options,
            probe: Probe::new(binary),
            clients: Clients::default(),
        })
    }

    fn load_checked(&self, manifest: &Manifest, folder: &Path) -> anyhow::Result<Loaded> {
        let [file] = manifest.files.as_slice() else {
            anyhow::bail!(
                "it has {} files; a scribe's version is one .gguf file: publish it alone",
                manifest.files.len()
            );
        };
        anyhow::ensure!(
            file.path.ends_with(".gguf"),
            "its file {:?} is not named *.gguf; publish a GGUF model",
            file.path
        );
        let loaded = self.load_file(&folder.join(&file.path), &file.sha256)?;
        let info = loaded.info();
        tracing::info!(
            model = manifest.model,
            version = manifest.version,
            name = info.name,
            quantization = info.quantization,
            parameters = info.parameters,
            context_tokens = info.context_tokens,
            slots = info.slots,
            device = info.device,
            "loaded and checked"
        );
        Ok(loaded)
    }

    /// Loads a file; `sha256` is what it is remembered by once it was tried.
    ///
    /// # Errors
    /// What is wrong with it, or what it lacks room for.
    pub fn load_file(&self, path: &Path, sha256: &str) -> anyhow::Result<Loaded> {
        let file = understudy_gguf::check(path)?;
        let option = |value: Option<std::num::NonZeroU32>| value.map(std::num::NonZeroU32::get);
        let (available, weights_copies, moved) = match self.place {
            Place::Cpu => (available(), 1, MOVED_MAX),
            Place::Cuda(index) => (self.backend.free_bytes(index).unwrap_or(u64::MAX), 0, 0),
        };
        let needs = Needs {
            weights: file.weights_bytes,
            kv_token: file.kv_bytes_per_token(),
            trained_tokens: file.context_length,
            slots: self.options.slots.get(),
            context_tokens: option(self.options.context_tokens),
            kv_tokens: option(self.options.kv_tokens),
            weights_copies,
            moved,
        };
        let sizes = sizes(&needs, available).map_err(anyhow::Error::msg)?;
        if sizes.slots < needs.slots {
            tracing::warn!(
                slots = sizes.slots,
                wanted = needs.slots,
                context_tokens = sizes.context_tokens,
                "there is room for fewer slots; lower --context-tokens if requests are shorter, or give it more memory"
            );
        }
        self.probe.check(path, sha256, self.options.device)?;
        let model = Model::load(self.backend, &self.place, path, &file, sizes).map_err(anyhow::Error::msg)?;
        let setup = Setup {
            place: self.place.clone(),
            slots: sizes.slots as usize,
            slot_cells: sizes.slot_cells,
            batch_tokens: self.options.batch_tokens.get(),
            threads: option(self.options.threads).unwrap_or_else(physical_cores),
            clients: self.clients.clone(),
        };
        Loaded::start(self.backend, model, setup, self.options.queue_depth_max.get())
    }
}

impl understudy_worker::Loader for ScribeLoader {
    type Loaded = Loaded;
    const KIND: Kind = Kind::Scribe;

    fn description(&self) -> String {
        format!("{}, at most {} slots", self.place, self.options.slots)
    }

    fn load(&self, manifest: &Manifest, folder: &Path) -> Result<Loaded, LoadError> {
        // The whole chain in one line: it goes into the worker's record.
        self.load_checked(manifest, folder)
            .map_err(|error| format!("{error:#}").into())
    }
}

impl Loaded {
    fn start(backend: &'static Backend, model: Model, setup: Setup, queue_depth_max: u32) -> anyhow::Result<Self> {
        let (model, gauges) = (Arc::new(model), Arc::<Gauges>::default());
        let (jobs, waiting) = sync_channel(queue_depth_max as usize);
        let (ready, readiness) = sync_channel(1);
        let thread = {
            let (model, gauges) = (Arc::clone(&model), Arc::clone(&gauges));
            let engine = move || keep_running(backend, &model, &setup, &gauges, &waiting, &ready);
            thread::Builder::new()
                .name("scribe-engine".to_owned())
                .spawn(engine)
                .context("cannot start the engine's thread")?
        };
        let loaded = Self {
            model,
            gauges,
            queue_depth_max,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        match readiness.recv() {
            Ok(ready) => ready.map_err(anyhow::Error::msg)?,
            Err(RecvError) => anyhow::bail!("the engine died while it started"),
        }
        Ok(loaded)
    }
}

impl Engine for Loaded {
    fn info(&self) -> &Info {
        self.model.info()
    }

    fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    fn start(&self, generation: Generation) -> Result<Stream, EngineError> {
        let most = self.queue_depth_max;
        let busy = || EngineError::Busy(most as usize);
        // Before the work of tokenising. A copy never waits behind another request.
        let queued = if generation.shadow {
            Queued::enter(&self.gauges, 1).ok_or(EngineError::NoSpare)?
        } else {
            Queued::enter(&self.gauges, most.into()).ok_or_else(busy)?
        };
        let (mut job, stream) = Job::new(&self.model, generation, Instant::now())?;
        job.queued = Some(queued);
        let jobs = self.jobs.as_ref().ok_or(EngineError::Lost)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => EngineError::Lost,
        })?;
        Ok(stream)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // The engine ends when it has finished what it has.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Panics were caught and logged on the thread.
            let _ = thread.join();
        }
    }
}

fn keep_running(
    backend: &Backend,
    model: &Model,
    setup: &Setup,
    gauges: &Arc<Gauges>,
    jobs: &Receiver<Job>,
    ready: &SyncSender<Result<(), String>>,
) {
    let mut started = false;
    loop {
        let run = || {
            let mut runner = Runner::new(backend, model, setup, Arc::clone(gauges))?;
            // Nobody waits for it when the engine starts over.
            let _ = ready.try_send(Ok(()));
            started = true;
            serve(&mut runner, jobs);
            Ok(())
        };
        // Nothing that outlives the runner is left half-changed by a panic; its jobs are told that they were lost.
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(error, "the engine does not start");
                let _ = ready.try_send(Err(error));
                return;
            }
            Err(panic) if !started => {
                let _ = ready.try_send(Err(format!("the engine died: {}", what(&*panic))));
                return;
            }
            Err(panic) => {
                tracing::error!(panic = what(&*panic), "the engine died and starts over");
                thread::sleep(RESTART_PAUSE);
            }
        }
    }
}

/// Runs jobs until nobody can send more and all have ended.
fn serve(runner: &mut Runner<'_>, jobs: &Receiver<Job>) {
    let mut open = true;
    loop {
        if runner.idle() {
            match jobs.recv() {
                Ok(job) => runner.add(job),
                Err(RecvError) => return,
            }
        }
        while open {
            match jobs.try_recv() {
                Ok(job) => runner.add(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => open = false,
            }
        }
        if !runner.turn(Instant::now()) && !runner.idle() {
            // Copies wait until there is capacity to spare, or for a request that comes before.
            match jobs.recv_timeout(SPARE_POLL) {
                Ok(job) => runner.add(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(SPARE_POLL),
            }
        }
    }
}

fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
