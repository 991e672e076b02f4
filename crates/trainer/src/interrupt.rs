//! Ctrl-C and SIGTERM, as a flag that long work looks at between two steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Set once the user or the system wants the process to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to stop.
    pub(crate) fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// From now on the first signal sets the flag; the second ends the process.
    pub(crate) fn listen(&self) -> anyhow::Result<()> {
        let flag = Arc::clone(&self.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                    if flag.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                    eprintln!("\nstopping after this step and saving; once more to stop at once");
                }
            });
        })?;
        Ok(())
    }
}
