//! Processes connected by MPI. Called by the main thread only.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Context;
use mpi::collective::SystemOperation;
use mpi::datatype::Equivalence;
use mpi::environment::Universe;
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

/// Values of one message. MPI counts in 32 bits, and the sums need as much memory again.
const MESSAGE_VALUES_MAX: usize = 1 << 22;

/// All processes of `MPI_COMM_WORLD`. Dropped by a panic, it ends the others.
pub(super) struct Processes {
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Processes {
    pub(super) fn join() -> anyhow::Result<Self> {
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            .context("MPI is in use in this process already")?;
        Ok(Self {
            world: universe.world(),
            _universe: universe,
        })
    }

    pub(super) fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or_default()
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    /// A launcher may bind each process to some of the host's processors, so those are counted that are bound as this one is.
    pub(super) fn neighbours(&self) -> anyhow::Result<usize> {
        let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
        let bound = status.lines().find(|line| line.starts_with("Cpus_allowed:"));
        let mut hasher = DefaultHasher::new();
        bound.hash(&mut hasher);
        // A colour has 31 bits.
        let colour = i32::try_from(hasher.finish() >> 33)?;
        let host = self.world.split_shared(self.world.rank());
        let alike = host.split_by_color(Color::with_value(colour));
        Ok(alike.map_or(1, |alike| alike.size()).try_into()?)
    }

    pub(super) fn sum<T: Equivalence + Copy>(&self, values: &mut [T]) {
        let mut sums = values[..values.len().min(MESSAGE_VALUES_MAX)].to_vec();
        for part in values.chunks_mut(MESSAGE_VALUES_MAX) {
            let sums = &mut sums[..part.len()];
            self.world.all_reduce_into(&*part, sums, SystemOperation::sum());
            part.copy_from_slice(sums);
        }
    }

    pub(super) fn broadcast<T: Equivalence>(&self, values: &mut [T]) {
        for part in values.chunks_mut(MESSAGE_VALUES_MAX) {
            self.world.process_at_rank(0).broadcast_into(part);
        }
    }

    pub(super) fn abort(&self) -> ! {
        self.world.abort(1)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort();
        }
    }
}
