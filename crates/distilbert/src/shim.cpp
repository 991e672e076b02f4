// The few operations of libtorch that the `tch` crate does not bind. Called from `native.rs` only.
//
// Every function that can throw catches and reports by `error` (a string to be freed with us_free_string), because an
// exception must not cross into Rust.

#include <dlfcn.h>
#include <malloc.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace {

enum Kind : int32_t { kPlain = 0, kOneDnn = 1, kInt8 = 2 };

// A linear layer whose weight is laid out once for the kernels that will read it.
struct Linear {
  Kind kind;
  at::Tensor weight;               // plain and oneDNN
  std::optional<at::Tensor> bias;  // plain and oneDNN
  c10::IValue packed;              // FBGEMM's packed weight and bias
};

// As in native.rs.
struct AdamW {
  double learning_rate, beta1, beta2, weight_decay, epsilon, gradient_scale;
};

const c10::OperatorHandle& find(const char* name, const char* overload) {
  static thread_local std::vector<std::pair<std::string, c10::OperatorHandle>> cache;
  std::string key = std::string(name) + "." + overload;
  for (const auto& entry : cache)
    if (entry.first == key) return entry.second;
  cache.emplace_back(key, c10::Dispatcher::singleton().findSchemaOrThrow(name, overload));
  return cache.back().second;
}

c10::IValue call(const char* name, const char* overload, torch::jit::Stack stack) {
  auto handle = find(name, overload);
  handle.callBoxed(stack);
  return stack.at(0);
}

c10::IValue no_scalars() { return c10::impl::GenericList(c10::OptionalType::create(c10::NumberType::get())); }

void report(char** error, const char* what) { *error = strdup(what); }

template <typename Result, typename Body>
Result protect(char** error, Result failed, Body body) {
  try {
    return body();
  } catch (const c10::Error& e) {
    report(error, e.what_without_backtrace());
  } catch (const std::exception& e) {
    report(error, e.what());
  } catch (...) {
    report(error, "unknown C++ exception");
  }
  return failed;
}

Linear* new_linear(const at::Tensor& weight, const at::Tensor& bias, Kind kind) {
  auto linear = std::make_unique<Linear>();
  linear->kind = kind;
  switch (kind) {
    case kPlain:
      linear->weight = weight;
      linear->bias = bias;
      break;
    case kOneDnn:
      linear->weight = call("mkldnn::_reorder_linear_weight", "", {weight, c10::IValue()}).toTensor();
      linear->bias = bias;
      break;
    case kInt8: {
      // Symmetric, one scale for each output channel.
      auto w = weight.to(at::kFloat);
      auto scales = w.abs().amax(1).div(127.0).clamp_min(1e-8).to(at::kDouble);
      auto zeros = at::zeros({w.size(0)}, at::kLong);
      auto quantised = at::quantize_per_channel(w, scales, zeros, 0, at::kQInt8);
      linear->packed = call("quantized::linear_prepack", "", {quantised, bias.to(at::kFloat)});
      break;
    }
  }
  return linear.release();
}

at::Tensor run_linear(const Linear& linear, const at::Tensor& x, const at::Tensor* residual, bool gelu) {
  at::Tensor y;
  switch (linear.kind) {
    case kOneDnn:
      if (residual)
        return call("mkldnn::_linear_pointwise", "binary", {x, *residual, linear.weight, linear.bias, "add"}).toTensor();
      // Algorithm "none" is the exact GELU, by the error function.
      return call("mkldnn::_linear_pointwise", "",
                  {x, linear.weight, linear.bias, gelu ? "gelu" : "none", no_scalars(), gelu ? "none" : ""})
          .toTensor();
    case kInt8:
      y = call("quantized::linear_dynamic", "", {x, linear.packed, false}).toTensor();
      break;
    case kPlain:
      y = at::linear(x, linear.weight, linear.bias);
      break;
  }
  if (gelu) y = at::gelu(y);
  if (residual) y = y.add(*residual);
  return y;
}

// The output function of SplitMix64: as many random numbers as there are arguments, in any order and on any thread.
inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Fills with 0 or 65536 / keep, the latter with a probability of keep / 65536.
template <typename T>
void fill_noise(T* out, int64_t count, uint64_t seed, uint32_t keep) {
  const T kept = static_cast<T>(65536.0f / static_cast<float>(keep)), dropped = static_cast<T>(0.0f);
  auto fill = [&](int64_t i, int64_t lanes) {
    uint64_t bits = mix(seed + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15);
    for (int64_t lane = 0; lane < lanes; ++lane)
      out[4 * i + lane] = static_cast<uint16_t>(bits >> (16 * lane)) < keep ? kept : dropped;
  };
  at::parallel_for(0, count / 4, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) fill(i, 4);
  });
  fill(count / 4, count % 4);
}

// Inverted dropout on the CPU. libtorch draws one number at a time from a Mersenne twister, which takes up to a tenth of a
// training step; here one number serves four elements, and all come from one draw of libtorch's generator.
at::Tensor dropout(const at::Tensor& x, double p) {
  auto keep = static_cast<uint32_t>(std::lround((1.0 - p) * 65536.0));
  auto noise = at::empty_like(x);
  bool known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  if (!x.device().is_cpu() || !known || keep == 0 || !noise.is_non_overlapping_and_dense()) return at::dropout(x, p, true);
  uint64_t seed;
  {
    auto generator = at::detail::getDefaultCPUGenerator();
    std::lock_guard<std::mutex> lock(generator.mutex());
    seed = at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
  }
  if (x.scalar_type() == at::kFloat)
    fill_noise(noise.data_ptr<float>(), noise.numel(), seed, keep);
  else
    fill_noise(noise.data_ptr<at::BFloat16>(), noise.numel(), seed, keep);
  return x.mul(noise);
}

}  // namespace

extern "C" {

void us_free_string(char* s) { free(s); }

Linear* us_linear_new(const at::Tensor* weight, const at::Tensor* bias, int32_t kind, char** error) {
  return protect<Linear*>(error, nullptr, [&] { return new_linear(*weight, *bias, static_cast<Kind>(kind)); });
}

at::Tensor* us_linear_run(const Linear* linear, const at::Tensor* x, const at::Tensor* residual, bool gelu, char** error) {
  return protect<at::Tensor*>(error, nullptr, [&] { return new at::Tensor(run_linear(*linear, *x, residual, gelu)); });
}

void us_linear_free(Linear* linear) { delete linear; }

// Begins or ends bf16 autocast on the CPU or CUDA for this thread. Returns what was set before, or -1 on error.
int32_t us_autocast_begin(bool cuda, char** error) {
  return protect<int32_t>(error, -1, [&] {
    auto device = cuda ? at::kCUDA : at::kCPU;
    int32_t before = at::autocast::is_autocast_enabled(device) ? 1 : 0;
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_enabled(device, true);
    at::autocast::increment_nesting();
    return before;
  });
}

void us_autocast_end(bool cuda, int32_t before) {
  char* error = nullptr;
  protect<int32_t>(&error, -1, [&] {
    // The cache holds casts of the weights; they are stale after the next optimiser step.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(cuda ? at::kCUDA : at::kCPU, before != 0);
    return 0;
  });
  free(error);
}

// One AdamW update of `count` parameters in one pass over their memory. Returns 0, or -1 on error.
int32_t us_adamw(size_t count, const at::Tensor* const* values, const at::Tensor* const* gradients, const at::Tensor* const* moments1,
                 const at::Tensor* const* moments2, const at::Tensor* step, const AdamW* settings, char** error) {
  return protect<int32_t>(error, -1, [&] {
    auto list = [&](const at::Tensor* const* tensors) {
      std::vector<at::Tensor> copies;
      for (size_t i = 0; i < count; ++i) copies.push_back(*tensors[i]);
      return copies;
    };
    std::vector<at::Tensor> steps(count, *step);
    // The kernel divides gradients by this one.
    auto scale = at::full({}, 1.0 / settings->gradient_scale, step->options());
    at::_fused_adamw_(list(values), list(gradients), list(moments1), list(moments2), {}, steps, settings->learning_rate,
                      settings->beta1, settings->beta2, settings->weight_decay, settings->epsilon, false, false, scale);
    return 0;
  });
}

at::Tensor* us_dropout(const at::Tensor* x, double p, char** error) {
  return protect<at::Tensor*>(error, nullptr, [&] { return new at::Tensor(dropout(*x, p)); });
}

// Drops a parameter's gradient, so that the next backward pass moves the new one there and need not add it.
int32_t us_forget_gradient(const at::Tensor* parameter, char** error) {
  return protect<int32_t>(error, -1, [&] {
    parameter->mutable_grad().reset();
    return 0;
  });
}

// Loads the CUDA half of libtorch. Null: loaded; otherwise the loader's reason (to be freed).
char* us_load_cuda() {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return nullptr;
  const char* reason = dlerror();
  return strdup(reason ? reason : "unknown reason");
}

void us_limit_arenas(int32_t arenas) { mallopt(M_ARENA_MAX, arenas); }

void us_trim_memory() { malloc_trim(0); }

// oneDNN reads it when it computes for the first time. What the user has set stays.
void us_limit_kernels(const char* count) { setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", count, 0); }

// The address that the dynamic loader gives to a name for the whole process.
void* us_find_symbol(const char* name) { return dlsym(RTLD_DEFAULT, name); }

}  // extern "C"
