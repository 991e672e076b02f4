//! llama.cpp itself: once for each process.
//!
//! The build makes a module for each kind of processor, and here the best that runs is loaded, from `backends/` beside the
//! binary. A CUDA module that lies there is loaded too, if it can be.

use std::{
    env,
    ffi::CStr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use llama_cpp_2::{
    LlamaBackendDevice, LlamaBackendDeviceType, LogOptions, list_llama_ggml_backend_devices,
    llama_backend::{LlamaBackend, load_backends_from_path},
    model::params::LlamaModelParams,
    send_logs_to_tracing,
};

use crate::options::Device;

/// More layers than any model has.
const ALL_LAYERS: u32 = 9999;

/// What OpenMP is told before the process starts. Threads that spin while they wait take the processor from each other when
/// anything else runs: with a busy neighbour, decoding takes nearly twice as long.
const OPENMP: [(&str, &str); 1] = [("GOMP_SPINCOUNT", "0")];

/// With any of these the operator has decided.
const OPENMP_SET: [&str; 3] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"];

/// Why llama.cpp cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No module for this processor.
    #[error(
        "llama.cpp has no module for this processor: {0} must hold libggml-cpu-*.so; copy `lib` and `backends` together \
         with the binary"
    )]
    NoProcessor(String),
    /// CUDA was asked for.
    #[error(
        "--device cuda: no CUDA device; it needs a driver, and libggml-cuda.so in {0}, built from the same llama.cpp; or use \
         --device cpu"
    )]
    NoCuda(String),
    /// llama.cpp's own words.
    #[error("llama.cpp does not start: {0}")]
    Init(String),
}

/// llama.cpp, ready.
#[derive(Debug)]
pub struct Backend {
    /// Proof that it is.
    pub llama: LlamaBackend,
    devices: Vec<LlamaBackendDevice>,
    folder: PathBuf,
}

/// Where a model is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the processor.
    Cpu,
    /// On a device, by llama.cpp's number.
    Cuda(usize),
}

/// Starts the process again with what OpenMP must find in its environment, unless it is there or the operator has set it.
/// To be called first of all: libgomp reads the environment when it is loaded, before `main`.
pub fn prepare_process() {
    if OPENMP_SET.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let Ok(binary) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| binary.clone().into());
    // It comes back only if it failed, and then decoding is slower on a busy machine, no more.
    let _ = Command::new(binary).arg0(name).args(arguments).envs(OPENMP).exec();
}

impl Backend {
    /// Loads the modules and starts llama.cpp, at the first call.
    ///
    /// # Errors
    /// If there is no module for this processor.
    pub fn get() -> Result<&'static Self, BackendError> {
        static BACKEND: OnceLock<Result<Backend, BackendError>> = OnceLock::new();
        BACKEND.get_or_init(Self::start).as_ref().map_err(Clone::clone)
    }

    fn start() -> Result<Self, BackendError> {
        send_logs_to_tracing(LogOptions::default().with_logs_enabled(true));
        let folder = modules();
        // It takes text only.
        if folder.to_str().is_some() {
            load_backends_from_path(&folder);
        }
        // Before llama.cpp starts, which would search, if there are none, the folder that it was built in.
        let devices = list_llama_ggml_backend_devices();
        if !devices.iter().any(|one| one.device_type == LlamaBackendDeviceType::Cpu) {
            return Err(BackendError::NoProcessor(folder.display().to_string()));
        }
        let llama = LlamaBackend::init().map_err(|error| BackendError::Init(error.to_string()))?;
        for device in &devices {
            tracing::info!(
                name = device.name,
                description = device.description,
                memory_bytes = device.memory_total,
                "llama.cpp computes on"
            );
        }
        tracing::info!(features = features(), "llama.cpp is ready");
        Ok(Self { llama, devices, folder })
    }

    /// Where to compute.
    ///
    /// # Errors
    /// If a device was asked for that is not there.
    pub fn place(&self, wanted: Device) -> Result<Place, BackendError> {
        let gpu = |one: &&LlamaBackendDevice| one.device_type == LlamaBackendDeviceType::Gpu;
        match (wanted, self.devices.iter().find(gpu)) {
            (Device::Cpu, _) | (Device::Auto, None) => Ok(Place::Cpu),
            (Device::Auto | Device::Cuda, Some(device)) => Ok(Place::Cuda(device.index)),
            (Device::Cuda, None) => Err(BackendError::NoCuda(self.folder.display().to_string())),
        }
    }

    /// Bytes that are free on a device.
    #[must_use]
    pub fn free_bytes(&self, index: usize) -> Option<u64> {
        // Read anew: it changes.
        let devices = list_llama_ggml_backend_devices();
        let device = devices.into_iter().find(|one| one.index == index)?;
        u64::try_from(device.memory_free).ok()
    }
}

impl Place {
    /// How a model is loaded here.
    ///
    /// # Errors
    /// If llama.cpp does not know the device.
    pub fn model_params(&self) -> Result<LlamaModelParams, String> {
        match self {
            Self::Cpu => Ok(LlamaModelParams::default().with_n_gpu_layers(0)),
            Self::Cuda(index) => LlamaModelParams::default()
                .with_n_gpu_layers(ALL_LAYERS)
                .with_devices(&[*index])
                .map_err(|error| error.to_string()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(_) => f.write_str("cuda:0"),
        }
    }
}

/// `backends/` beside the binary, or one above: tests and `bin/` folders.
fn modules() -> PathBuf {
    let binary = env::current_exe().unwrap_or_default();
    let folder = binary.parent().unwrap_or(Path::new("."));
    let beside = folder.join("backends");
    let above = folder.parent().map(|above| above.join("backends"));
    above
        .filter(|above| !beside.is_dir() && above.is_dir())
        .unwrap_or(beside)
}

#[expect(unsafe_code, reason = "the safe crate does not offer it")]
fn features() -> String {
    // SAFETY: it gives a zero-terminated text that lives as long as the process and is written by one call at a time:
    // this function runs once, under the lock of `Backend::get`.
    let text = unsafe { CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()) };
    text.to_string_lossy().into_owned()
}
