//! What a process does once before it computes.

use std::{
    ffi::CStr,
    sync::{Once, OnceLock},
};

use crate::native;

/// Each of malloc's arenas keeps memory of its own after a version is freed.
const MALLOC_ARENAS: i32 = 2;
/// In training, nearly every step has a shape of its own, and a kernel takes megabytes: oneDNN's own bound of 1,024 lets a process grow
/// by gigabytes.
const TRAINING_KERNELS: &CStr = c"64";

/// Sets up libtorch for this process. Call it first in `main`, before threads are started; later calls do nothing.
///
/// The executable's build script must print the link arguments of this crate (see `build.rs`), or libtorch is not found at
/// start and MKL takes its slow path on processors that are not Intel's.
pub fn init_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        native::limit_arenas(MALLOC_ARENAS);
        tch::set_num_interop_threads(1);
        if !mkl_override_is_active() {
            tracing::warn!(
                "this executable does not export mkl_serv_intel_cpu_true, so fp32 is slow on AMD processors: its build.rs \
                 must print the link arguments of understudy-distilbert"
            );
        }
    });
}

/// Sets up this process for training, besides [`init_process`], and as early.
pub fn init_training() {
    native::limit_kernels(TRAINING_KERNELS);
}

/// Sets up the calling thread for inference: the number of threads that one operation uses, and no gradients.
pub fn init_engine_thread(intra_op_threads: u16) {
    tch::set_num_threads(i32::from(intra_op_threads.max(1)));
    // A guard restores the mode when it is dropped; this thread keeps it.
    std::mem::forget(tch::no_grad_guard());
}

/// Gives freed memory back to the system. To be called after a model is dropped: malloc keeps hundreds of megabytes otherwise.
/// It takes some tens of milliseconds.
pub fn trim_memory() {
    native::trim_memory();
}

/// Whether a CUDA device can be used. The first call loads libtorch's CUDA library, if the machine has one (of the same
/// version, found by `LD_LIBRARY_PATH` or beside libtorch); call it before the first tensor is made.
pub fn cuda_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| match native::load_cuda() {
        Ok(()) => tch::Cuda::is_available(),
        Err(reason) => {
            tracing::debug!(reason, "no CUDA");
            false
        }
    })
}

/// Whether MKL asks this executable, rather than itself, for the kind of processor.
pub fn mkl_override_is_active() -> bool {
    const NAME: &CStr = c"mkl_serv_intel_cpu_true";
    native::find_symbol(NAME) == native::mkl_serv_intel_cpu_true as *const std::ffi::c_void
}
