//! Whether there is capacity to spare for copies that no client waits for.
//!
//! Engines of one process share its processor or its device, so they count the requests of clients together: while any engine
//! has one, no engine computes for a copy.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The requests of clients that the engines of this process have.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<AtomicU64>);

/// Counts a client's request while it exists.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU64>);

impl Clients {
    pub(crate) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
