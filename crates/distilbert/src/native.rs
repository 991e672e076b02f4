//! The boundary to C++: the only module with `unsafe` code.
//!
//! Tensors go to the shim as the pointers that `tch` holds (`at::Tensor *`), and come back as new ones that `tch` then owns.
//! The shim catches every C++ exception; an error comes back as a string.
#![expect(unsafe_code, reason = "calls into the C++ shim and memory-maps files")]

use std::{
    ffi::{CStr, c_char, c_void},
    fs::File,
    io,
    path::Path,
    ptr,
};

use tch::Tensor;

use crate::error::Error;

#[repr(C)]
struct RawLinear {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn us_free_string(text: *mut c_char);
    fn us_linear_new(weight: *const c_void, bias: *const c_void, kind: i32, error: *mut *mut c_char) -> *mut RawLinear;
    fn us_linear_run(
        linear: *const RawLinear,
        x: *const c_void,
        residual: *const c_void,
        gelu: bool,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn us_linear_free(linear: *mut RawLinear);
    fn us_autocast_begin(cuda: bool, error: *mut *mut c_char) -> i32;
    fn us_autocast_end(cuda: bool, before: i32);
    fn us_adamw(
        count: usize,
        values: *const *const c_void,
        gradients: *const *const c_void,
        moments1: *const *const c_void,
        moments2: *const *const c_void,
        step: *const c_void,
        settings: *const AdamW,
        error: *mut *mut c_char,
    ) -> i32;
    fn us_dropout(x: *const c_void, p: f64, error: *mut *mut c_char) -> *mut c_void;
    fn us_forget_gradient(parameter: *const c_void, error: *mut *mut c_char) -> i32;
    fn us_load_cuda() -> *mut c_char;
    fn us_limit_arenas(arenas: i32);
    fn us_trim_memory();
    fn us_limit_kernels(count: *const c_char);
    fn us_find_symbol(name: *const c_char) -> *mut c_void;
}

/// Takes over a string that the shim allocated.
fn take_string(text: *mut c_char) -> String {
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: the shim made it with strdup, so it ends with a zero byte and is ours to free, once, after the copy.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        us_free_string(text);
        copy
    }
}

fn engine_error(error: *mut c_char) -> Error {
    Error::engine(&take_string(error))
}

/// How a [`Linear`]'s weight is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is: any device, any kind.
    Plain = 0,
    /// oneDNN's blocked layout: CPU, f32 or bf16.
    OneDnn = 1,
    /// FBGEMM, 8 bits by output channel, activations quantised by batch: CPU, f32 in and out.
    Int8 = 2,
}

/// A linear layer with its weight packed once.
pub(crate) struct Linear(ptr::NonNull<RawLinear>);

// SAFETY: the C++ object owns its tensors through atomic reference counts and has no tie to a thread.
unsafe impl Send for Linear {}
// SAFETY: it is never changed after its making; running it only reads the packed weight, and libtorch allows concurrent reads.
unsafe impl Sync for Linear {}

impl Linear {
    pub(crate) fn new(weight: &Tensor, bias: &Tensor, packing: Packing) -> Result<Linear, Error> {
        let mut error = ptr::null_mut();
        // SAFETY: both pointers are live `at::Tensor`s for the length of the call, which copies what it keeps.
        let raw = unsafe {
            us_linear_new(
                weight.as_ptr().cast(),
                bias.as_ptr().cast(),
                packing as i32,
                &raw mut error,
            )
        };
        ptr::NonNull::new(raw).map(Linear).ok_or_else(|| engine_error(error))
    }

    /// `x · weightᵀ + bias`, then the exact GELU if wished.
    pub(crate) fn run(&self, x: &Tensor, gelu: bool) -> Result<Tensor, Error> {
        self.run_raw(x, ptr::null(), gelu)
    }

    /// `x · weightᵀ + bias + residual`.
    pub(crate) fn run_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor, Error> {
        self.run_raw(x, residual.as_ptr().cast(), false)
    }

    fn run_raw(&self, x: &Tensor, residual: *const c_void, gelu: bool) -> Result<Tensor, Error> {
        let mut error = ptr::null_mut();
        // SAFETY: `self.0` is live until drop; `x` and `residual` (null or live) outlive the call.
        let raw = unsafe { us_linear_run(self.0.as_ptr(), x.as_ptr().cast(), residual, gelu, &raw mut error) };
        if raw.is_null() {
            return Err(engine_error(error));
        }
        // SAFETY: the shim made it with `new at::Tensor`, exactly what `tch` deletes when it drops.
        Ok(unsafe { Tensor::from_ptr(raw.cast()) })
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        // SAFETY: made by us_linear_new, freed here only.
        unsafe { us_linear_free(self.0.as_ptr()) }
    }
}

/// A tensor that is only read from its making on, so threads may share it.
pub(crate) struct SharedTensor(Tensor);

// SAFETY: `tch` leaves `Sync` out because a tensor can be changed through a shared handle. This wrapper lends it out
// within the crate only, to code that never changes it in place; libtorch allows concurrent reads.
unsafe impl Sync for SharedTensor {}

impl SharedTensor {
    pub(crate) fn new(tensor: Tensor) -> SharedTensor {
        SharedTensor(tensor)
    }
}

impl std::ops::Deref for SharedTensor {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// bf16 autocast for this thread while it lives. `tch::autocast` does nothing on the CPU, and on CUDA takes fp16.
///
/// Hold it over the forward pass of one training step and drop it before the optimiser's step: on drop libtorch forgets
/// the casts of the weights that it made.
#[must_use = "autocast ends when this is dropped"]
pub struct Autocast {
    cuda: bool,
    before: i32,
    // Autocast belongs to the thread that began it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Autocast {
    /// Begins bf16 autocast of what runs on `device`.
    pub fn bf16(device: tch::Device) -> Result<Autocast, Error> {
        let (cuda, mut error) = (device.is_cuda(), ptr::null_mut());
        // SAFETY: no pointers but the place for an error.
        let before = unsafe { us_autocast_begin(cuda, &raw mut error) };
        if before < 0 {
            return Err(engine_error(error));
        }
        Ok(Autocast {
            cuda,
            before,
            _not_send: std::marker::PhantomData,
        })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: on the thread that began it, as the type is not Send.
        unsafe { us_autocast_end(self.cuda, self.before) }
    }
}

/// The numbers of one AdamW update (Loshchilov and Hutter 2019).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled from the gradient.
    pub weight_decay: f64,
    /// Added to the deviation.
    pub epsilon: f64,
    /// Gradients are multiplied by this first; positive.
    pub gradient_scale: f64,
}

/// Parameters with what an update of them needs; the four lists go together.
#[derive(Default)]
pub struct ParameterGroup {
    /// The parameters.
    pub values: Vec<Tensor>,
    /// Their gradients.
    pub gradients: Vec<Tensor>,
    /// First moments.
    pub moments1: Vec<Tensor>,
    /// Second moments.
    pub moments2: Vec<Tensor>,
}

impl AdamW {
    /// The `step`-th update, from 1, in one pass over the memory. To be called without gradients being recorded; all tensors
    /// are f32 and on one device.
    pub fn update(&self, step: u64, group: &ParameterGroup) -> Result<(), Error> {
        let Some(first) = group.values.first() else {
            return Ok(());
        };
        let lists = [&group.values, &group.gradients, &group.moments1, &group.moments2];
        let fits = |list: &&Vec<Tensor>| {
            list.len() == group.values.len()
                && list.iter().zip(&group.values).all(|(tensor, value)| {
                    tensor.size() == value.size()
                        && tensor.device() == first.device()
                        && tensor.f_kind().is_ok_and(|kind| kind == tch::Kind::Float)
                })
        };
        if !lists.iter().all(fits) {
            return Err(Error::Input(
                "parameters, gradients and moments must fit and be f32".to_owned(),
            ));
        }
        let step = Tensor::f_from_slice(&[step as f32])?
            .f_to_device(first.device())?
            .f_squeeze()?;
        let [values, gradients, moments1, moments2] = lists.map(|list| {
            list.iter()
                .map(|tensor| tensor.as_ptr().cast::<c_void>())
                .collect::<Vec<_>>()
        });
        let mut error = ptr::null_mut();
        // SAFETY: four lists of as many live `at::Tensor`s, of the shapes and kind that the kernel wants (checked above), a live
        // step and settings of the same layout; the call keeps none of them.
        let done = unsafe {
            us_adamw(
                values.len(),
                values.as_ptr(),
                gradients.as_ptr(),
                moments1.as_ptr(),
                moments2.as_ptr(),
                step.as_ptr().cast(),
                self,
                &raw mut error,
            )
        };
        if done < 0 { Err(engine_error(error)) } else { Ok(()) }
    }
}

/// Inverted dropout: each element becomes 0 with the probability `p` (in [0, 1), to 1/65536), the others grow so that the mean stays.
/// What is drawn follows from libtorch's seed, whatever the number of threads.
pub(crate) fn dropout(x: &Tensor, p: f64) -> Result<Tensor, Error> {
    let mut error = ptr::null_mut();
    // SAFETY: a live tensor, of which the result holds what it needs for itself.
    let raw = unsafe { us_dropout(x.as_ptr().cast(), p, &raw mut error) };
    if raw.is_null() {
        return Err(engine_error(error));
    }
    // SAFETY: the shim made it with `new at::Tensor`, exactly what `tch` deletes when it drops.
    Ok(unsafe { Tensor::from_ptr(raw.cast()) })
}

/// Drops the gradient that lies in a parameter: the next backward pass puts the new one there without adding it to zeros.
pub fn forget_gradient(parameter: &Tensor) -> Result<(), Error> {
    let mut error = ptr::null_mut();
    // SAFETY: a live tensor; handles of the old gradient stay valid, as they own it too.
    let done = unsafe { us_forget_gradient(parameter.as_ptr().cast(), &raw mut error) };
    if done < 0 { Err(engine_error(error)) } else { Ok(()) }
}

/// Maps a file into memory for reading.
pub(crate) fn map_file(path: &Path) -> io::Result<memmap2::Mmap> {
    let file = File::open(path)?;
    // SAFETY: a file cut short while mapped would raise SIGBUS. Checkpoints are read from the worker's cache or a finished
    // folder, where files are replaced by rename and never written in place; the map is dropped after the load.
    unsafe { memmap2::Mmap::map(&file) }
}

/// Loads libtorch's CUDA half, or says why not.
pub(crate) fn load_cuda() -> Result<(), String> {
    // SAFETY: no arguments; it runs the library's own constructors, which libtorch makes safe to run at any time.
    let reason = unsafe { us_load_cuda() };
    if reason.is_null() {
        Ok(())
    } else {
        Err(take_string(reason))
    }
}

/// Bounds the number of malloc's arenas.
pub(crate) fn limit_arenas(arenas: i32) {
    // SAFETY: mallopt checks its argument.
    unsafe { us_limit_arenas(arenas) }
}

/// Gives freed memory back to the system.
pub(crate) fn trim_memory() {
    // SAFETY: malloc_trim is thread-safe.
    unsafe { us_trim_memory() }
}

/// Bounds the number of kernels that oneDNN keeps. Other threads must not be reading the environment.
pub(crate) fn limit_kernels(count: &CStr) {
    // SAFETY: the string ends with a zero byte and is copied.
    unsafe { us_limit_kernels(count.as_ptr()) }
}

/// The address of a symbol as the dynamic loader sees it.
pub(crate) fn find_symbol(name: &CStr) -> *const c_void {
    // SAFETY: the name ends with a zero byte; the result is not followed.
    unsafe { us_find_symbol(name.as_ptr()) }
}

/// What libtorch's MKL asks before it takes its fast kernels: whether this is an Intel processor. On others it falls back to
/// code that is less than half as fast, although the processor has the same instructions. This definition, exported by the
/// executable (see `build.rs`), comes before MKL's own and answers by instruction set instead.
// SAFETY: the name is MKL's and nobody else's; interposing it is the point.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mkl_serv_intel_cpu_true() -> i32 {
    i32::from(std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma"))
}

/// The same question under its other name.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mkl_serv_intel_cpu() -> i32 {
    mkl_serv_intel_cpu_true()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn dropout_keeps_the_mean_follows_the_seed_and_passes_gradients() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let x = Tensor::ones([1000, 1001], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
            let draw = |seed, threads| {
                tch::manual_seed(seed);
                tch::set_num_threads(threads);
                dropout(&x.to_kind(kind), 0.2).unwrap()
            };
            let y = draw(1, 1);
            assert!(y.equal(&draw(1, 2)) && !y.equal(&draw(2, 1)));
            let y = y.to_kind(Kind::Float);
            let zeros = y.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            assert!((zeros - 0.2).abs() < 0.002, "{zeros}");
            assert!((y.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.004);
            // Neighbours, four of which share a draw, do not hang together.
            let both = y.narrow(1, 0, 1000) * y.narrow(1, 1, 1000);
            assert!((both.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.006);
            y.sum(Kind::Float).backward();
            assert!(x.grad().equal(&y));
        }
    }

    #[test]
    fn adamw_refuses_what_does_not_fit() {
        let group = ParameterGroup {
            values: vec![Tensor::ones([2], (Kind::Float, tch::Device::Cpu))],
            ..ParameterGroup::default()
        };
        let update = AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            weight_decay: 0.0,
            epsilon: 1e-8,
            gradient_scale: 1.0,
        };
        assert!(update.update(1, &group).is_err());
        assert!(update.update(1, &ParameterGroup::default()).is_ok());
    }
}
