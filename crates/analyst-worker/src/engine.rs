//! Engines: threads that take batches from the queue and compute them.
//!
//! An engine owns its thread, because the native library keeps per-thread state and a computation blocks. A failed
//! computation is INTERNAL for its batch. A panic loses the batch in hand, whose callers are told UNAVAILABLE (a retry
//! elsewhere is safe), and the engine starts over.
//!
//! One engine more computes copies that no client waits for. Its thread has the lowest priority, so that on a CPU, where all
//! share the cores, a client's text that comes meanwhile does not wait for it.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    dispatch::{Dispatch, Duty, Job},
    error::Failure,
    held::Held,
    metrics::{Metrics, Stage},
    model::{Model, probabilities},
};

/// Pause before an engine starts over, so that one that dies at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// The highest niceness, which is the lowest priority. On Linux a thread has one of its own.
const SHADOW_NICENESS: i32 = 19;

/// The engines of a process. They finish what waits and end when this is dropped.
pub struct Engines<H: Held> {
    dispatch: Arc<Dispatch<H>>,
    threads: Vec<JoinHandle<()>>,
}

impl<H: Held> Engines<H> {
    /// Starts `count` engines, and the one for copies. `prepare` runs first on each thread.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn start(dispatch: &Arc<Dispatch<H>>, count: usize, prepare: fn(), metrics: &Metrics) -> io::Result<Self> {
        let mut engines = Self {
            dispatch: Arc::clone(dispatch),
            threads: Vec::with_capacity(count + 1),
        };
        let primary = (0..count).map(|number| (format!("engine-{number}"), Duty::Primary));
        for (name, duty) in primary.chain([("engine-shadow".to_owned(), Duty::Shadow)]) {
            let (dispatch, metrics) = (Arc::clone(dispatch), metrics.clone());
            let thread = thread::Builder::new().name(name.clone());
            engines
                .threads
                .push(thread.spawn(move || keep_running(&name, duty, prepare, &dispatch, &metrics))?);
        }
        Ok(engines)
    }
}

impl<H: Held> Drop for Engines<H> {
    fn drop(&mut self) {
        self.dispatch.close();
        for thread in self.threads.drain(..) {
            // Panics were caught and logged on the thread.
            let _ = thread.join();
        }
    }
}

fn keep_running<H: Held>(name: &str, duty: Duty, prepare: fn(), dispatch: &Dispatch<H>, metrics: &Metrics) {
    if duty == Duty::Shadow
        && let Err(error) = rustix::process::setpriority_process(None, SHADOW_NICENESS)
    {
        tracing::warn!(%error, "copies are computed at the priority of everything else, so they may slow clients down");
    }
    loop {
        // Nothing that the engine shares is left half-changed by a panic: the queue's lock is not held while computing.
        let run = || {
            prepare();
            while let Some(batch) = dispatch.next(duty) {
                compute(batch, metrics);
            }
        };
        let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else {
            return;
        };
        tracing::error!(engine = name, panic = what(&*panic), "an engine died and starts over");
        metrics.engine_restarts.inc();
        thread::sleep(RESTART_PAUSE);
    }
}

fn compute<H: Held>(batch: Vec<Job<H>>, metrics: &Metrics) {
    let Some(first) = batch.first() else { return };
    let (held, version) = (first.held.clone(), Arc::clone(&first.version));
    let texts: Vec<&[u32]> = batch.iter().map(|job| &*job.ids).collect();
    let tokens: usize = texts.iter().map(|ids| ids.len()).sum();
    let padding = held.loaded().computed_tokens(&texts).saturating_sub(tokens);
    metrics.batch(&version, texts.len(), tokens, padding);

    let began = Instant::now();
    let rows = match held.loaded().logits(&texts) {
        Ok(rows) if rows.len() == texts.len() => Ok(rows),
        Ok(rows) => Err(format!("{} answers for {} texts", rows.len(), texts.len())),
        Err(error) => Err(error),
    };
    let took = began.elapsed();
    if let Err(error) = &rows {
        tracing::error!(
            model = version.model,
            version = version.version,
            error,
            "inference failed"
        );
    }
    for (index, job) in batch.into_iter().enumerate() {
        metrics.stage(&version, Stage::Infer, took);
        let answer = match &rows {
            Ok(rows) => probabilities(&rows[index]).ok_or(Failure::NotFinite),
            Err(error) => Err(Failure::Inference(error.clone())),
        };
        // The caller may be gone.
        let _ = job.reply.send(answer);
    }
}

fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
