#!/usr/bin/env bash
# Installs what a build, the demo and the tests need and this machine lacks. Safe to run again: a second run does nothing.
#
#   scripts/setup.sh           what building and running needs: compilers, libtorch
#   scripts/setup.sh --test    also what the tests need: etcd, Python clients, cargo-deny
#   scripts/setup.sh --mlflow  also MLflow, for the test of experiment tracking
#   scripts/setup.sh --mpi     also Open MPI, for training in several processes
#   scripts/setup.sh --bench   also what the benchmarks compare with: PyTorch, transformers, ONNX Runtime, h2load
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TORCH=2.11.0
readonly CACHE="${UNDERSTUDY_CACHE:-$HOME/.cache/understudy}"
readonly LIBTORCH_DIR="$CACHE/libtorch-$TORCH"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "installing Debian packages: ${missing[*]}"
  local root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

make_venv() { # name, requirements file
  local venv="$CACHE/venv-$1" wanted
  wanted="$(sha256sum <"$2")"
  if [ "$(cat "$venv/requirements.sha256" 2>/dev/null)" != "$wanted" ]; then
    say "installing Python packages from $2 into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$2"
    printf '%s\n' "$wanted" >"$venv/requirements.sha256"
  fi
}

# PyPI has only the wheel linked with CUDA. It serves the CPU too once libtorch.so, which asks for the CUDA libraries,
# is replaced by one that asks for the CPU ones only; what is kept is the headers and 440 MB of libraries.
install_libtorch() {
  [ -e "$LIBTORCH_DIR/complete" ] && return
  [ "$(uname -sm)" = "Linux x86_64" ] || die "libtorch is set up for x86-64 Linux only; set LIBTORCH to an own libtorch $TORCH"
  say "installing libtorch $TORCH into $LIBTORCH_DIR (downloads 545 MB once)"
  mkdir -p "$CACHE"
  local work
  work="$(mktemp -d "$CACHE/libtorch.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 \
    --python-version 3.11 --implementation cp -d "$work" -r scripts/libtorch.lock
  for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work/wheels"; done
  mkdir -p "$work/libtorch/lib"
  mv "$work/wheels/torch/include" "$work/wheels/torch/share" "$work/libtorch/"
  for library in libtorch_cpu.so libc10.so libgomp.so.1; do mv "$work/wheels/torch/lib/$library" "$work/libtorch/lib/"; done
  for library in libcudart.so.13 libcupti.so.13; do mv "$work/wheels/nvidia/cu13/lib/$library" "$work/libtorch/lib/"; done
  (
    cd "$work/libtorch/lib"
    strip --strip-unneeded libtorch_cpu.so
    gcc -shared -o libtorch.so -Wl,-soname,libtorch.so -Wl,--no-as-needed -L. -Wl,-rpath,'$ORIGIN' -Wl,-rpath-link,. \
      -ltorch_cpu -lc10 -x c /dev/null
  )
  touch "$work/libtorch/complete"
  rm -rf "$LIBTORCH_DIR"
  mv -T "$work/libtorch" "$LIBTORCH_DIR"
  rm -rf "$work"
  trap - EXIT
}

install_cargo_deny() {
  command -v cargo-deny >/dev/null || [ -x "$CACHE/bin/cargo-deny" ] && return
  say "building cargo-deny (once, some minutes)"
  CARGO_TARGET_DIR="$CACHE/target-tools" cargo install -q --locked --root "$CACHE" cargo-deny --version 0.20.2
  rm -rf "$CACHE/target-tools"
}

[ -n "$(command -v cargo)" ] || die "cargo is missing: install Rust from https://rustup.rs and run this again"
# protobuf-compiler and libprotobuf-dev: the build script of the crate etcd-client asks for them.
# cmake, libclang-dev: llama.cpp is built from the source that the crate llama-cpp-sys-2 carries.
install_packages g++ make pkg-config cmake libclang-dev protobuf-compiler libprotobuf-dev python3 python3-venv ca-certificates
install_libtorch
ln -sfn "$LIBTORCH_DIR" .libtorch

for wish in "$@"; do
  case "$wish" in
    --test)
      install_packages etcd-server etcd-client libfaketime openssl util-linux
      make_venv test tests/system/requirements.txt
      install_cargo_deny
      ;;
    --bench)
      install_packages nghttp2-client haproxy
      make_venv bench bench/requirements.txt
      ;;
    --mlflow)
      make_venv mlflow tests/mlflow/requirements.txt
      ;;
    --mpi)
      install_packages libopenmpi-dev openmpi-bin
      ;;
    *) die "unknown option $wish; the options are --test, --bench, --mlflow and --mpi" ;;
  esac
done
