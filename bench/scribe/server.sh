#!/usr/bin/env bash
# Builds llama.cpp's own server, once, and prints where it is. The source is what PyPI's llama-cpp-python carries, the
# build is for this very processor: the fastest that llama.cpp has.
set -euo pipefail

readonly VERSION=0.3.36
readonly SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
readonly HOME_DIR="${UNDERSTUDY_CACHE:-$HOME/.cache/understudy}/llama-server-$VERSION"

if [ ! -x "$HOME_DIR/llama-server" ]; then
  echo "bench: building llama.cpp's server $VERSION into $HOME_DIR (once, ten minutes or more)" >&2
  mkdir -p "$HOME_DIR"
  work="$(mktemp -d "$HOME_DIR/build.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$work" \
    "llama-cpp-python==$VERSION"
  (cd "$work" && echo "$SHA256  llama_cpp_python-$VERSION.tar.gz" | sha256sum --check --quiet && tar xzf ./*.tar.gz)
  {
    cmake -S "$work/llama_cpp_python-$VERSION/vendor/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
      -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
      -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
    nice -n 15 cmake --build "$work/build" --target llama-server -j"${BUILD_JOBS:-$(nproc)}"
  } >"$HOME_DIR/build.log" 2>&1 || { tail -20 "$HOME_DIR/build.log" >&2; exit 1; }
  mv "$work/build/bin/llama-server" "$HOME_DIR/llama-server"
fi
echo "$HOME_DIR/llama-server"
