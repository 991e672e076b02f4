//! Training in several processes, each of which computes its part of every batch.
//!
//! Gradients are added up over the processes before each update, so that all of them hold the same weights and a step means what it
//! means in one process. What steers a run (losses, figures, signals) is summed or taken from the first process; hence all of
//! them decide alike, and only the first one writes and speaks. A process that fails ends the others, which would wait for it for ever.
//!
//! Without the feature `mpi` there is one process, and [`World`] has no size.

#[cfg(feature = "mpi")]
mod mpi;

use std::time::Duration;

use anyhow::ensure;

#[cfg(feature = "mpi")]
use self::mpi::Processes;

/// How long the others leave it to the first process to tell an error, since most errors are the same in all.
const FIRST_TELLS: Duration = Duration::from_secs(3);

/// How many processes the launchers say that they started.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Launch {
    /// Open MPI's mpirun
    #[arg(long, env = "OMPI_COMM_WORLD_SIZE", hide = true)]
    launched_by_open_mpi: Option<usize>,
    /// That of MPICH and its kin
    #[arg(long, env = "PMI_SIZE", hide = true)]
    launched_by_pmi: Option<usize>,
    /// srun; not SLURM_NTASKS, which a job's script has too
    #[arg(long, env = "SLURM_STEP_NUM_TASKS", hide = true)]
    launched_by_slurm: Option<usize>,
}

impl Launch {
    fn processes(&self) -> usize {
        // Slurm may have started the mpirun.
        self.launched_by_open_mpi
            .or(self.launched_by_pmi)
            .or(self.launched_by_slurm)
            .unwrap_or(1)
    }
}

/// The processes of a run.
pub(crate) struct World(Option<Processes>);

impl World {
    /// The processes that were launched together with this one.
    pub(crate) fn join(launch: &Launch) -> anyhow::Result<Self> {
        let launched = launch.processes();
        if launched == 1 {
            return Ok(Self::alone());
        }
        let world = Self(Some(Processes::join()?));
        ensure!(
            world.size() == launched,
            "{launched} processes were started, but MPI connects {} of them: start them with the mpirun of the MPI library that this was built with, \
             or with `srun --mpi=pmix`",
            world.size()
        );
        Ok(world)
    }

    /// This process only.
    pub(crate) fn alone() -> Self {
        Self(None)
    }

    /// The number of this process, from 0.
    pub(crate) fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, Processes::rank)
    }

    /// Whether this is the process that writes and speaks.
    pub(crate) fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// A line on standard error, from the first process only.
    pub(crate) fn say(&self, line: &str) {
        if self.is_first() {
            eprintln!("{line}");
        }
    }

    /// The number of processes.
    pub(crate) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, Processes::size)
    }

    /// How many there are, as the end of a sentence's part.
    pub(crate) fn described(&self) -> String {
        match self.size() {
            1 => String::new(),
            size => format!(" in {size} processes"),
        }
    }

    /// How many processes may run on the processors that this one may run on.
    pub(crate) fn neighbours(&self) -> anyhow::Result<usize> {
        self.0.as_ref().map_or(Ok(1), Processes::neighbours)
    }

    /// This process's part of a list that all have: every [`World::size`]-th item, so that parts of a sorted list are alike.
    pub(crate) fn share<T: Copy>(&self, all: &[T]) -> Vec<T> {
        all.iter().copied().skip(self.rank()).step_by(self.size()).collect()
    }

    /// Replaces each value by its sum over all processes.
    pub(crate) fn sum(&self, values: &mut [f64]) {
        if let Some(processes) = &self.0 {
            processes.sum(values);
        }
    }

    /// The same for what is long.
    pub(crate) fn sum_f32(&self, values: &mut [f32]) {
        if let Some(processes) = &self.0 {
            processes.sum(values);
        }
    }

    /// Whether it is so in any process.
    pub(crate) fn any(&self, here: bool) -> bool {
        let mut count = [f64::from(here)];
        self.sum(&mut count);
        count[0] > 0.0
    }

    /// Replaces each value by that of the first process.
    pub(crate) fn copy_first(&self, values: &mut [f32]) {
        if let Some(processes) = &self.0 {
            processes.broadcast(values);
        }
    }

    /// The text that the first process has.
    pub(crate) fn text_of_first(&self, text: String) -> anyhow::Result<String> {
        let Some(processes) = &self.0 else {
            return Ok(text);
        };
        let mut length = [text.len() as u64];
        processes.broadcast(&mut length);
        let mut bytes = text.into_bytes();
        bytes.resize(usize::try_from(length[0])?, 0);
        processes.broadcast(&mut bytes);
        Ok(String::from_utf8(bytes)?)
    }

    /// Ends all processes by an error of this one. The only process gets it back.
    pub(crate) fn fail(&self, error: anyhow::Error) -> anyhow::Error {
        if let Some(processes) = &self.0 {
            if !self.is_first() {
                std::thread::sleep(FIRST_TELLS);
            }
            eprintln!("error in process {} of {}: {error:#}", self.rank(), self.size());
            processes.abort();
        }
        error
    }
}

/// None can be made.
#[cfg(not(feature = "mpi"))]
enum Processes {}

#[cfg(not(feature = "mpi"))]
impl Processes {
    fn join() -> anyhow::Result<Self> {
        anyhow::bail!(
            "started as one of several processes, but built without MPI: build it with \
             `cargo build --release -p understudy-trainer --features mpi`"
        )
    }

    fn rank(&self) -> usize {
        match *self {}
    }

    fn size(&self) -> usize {
        match *self {}
    }

    fn neighbours(&self) -> anyhow::Result<usize> {
        match *self {}
    }

    fn sum<T>(&self, _: &mut [T]) {
        match *self {}
    }

    fn broadcast<T>(&self, _: &mut [T]) {
        match *self {}
    }

    fn abort(&self) -> ! {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_launched_the_process_counts() {
        let launch = |launched_by_open_mpi, launched_by_slurm| Launch {
            launched_by_open_mpi,
            launched_by_slurm,
            launched_by_pmi: None,
        };
        for (launch, processes) in [
            (launch(None, None), 1),
            (launch(None, Some(4)), 4),
            (launch(Some(2), Some(1)), 2),
            (launch(Some(1), Some(2)), 1),
        ] {
            assert_eq!(launch.processes(), processes, "{launch:?}");
            #[cfg(not(feature = "mpi"))]
            match World::join(&launch) {
                Ok(world) => assert_eq!((processes, world.size()), (1, 1)),
                Err(error) => assert!(processes > 1 && error.to_string().contains("--features mpi"), "{error}"),
            }
        }
    }
}
