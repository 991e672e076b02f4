#!/usr/bin/env bash
# What the router costs: an Analyst that answers at once, called directly, through the router (95/5 split), and through
# HAProxy. Prints a Markdown table. Needs h2load (Debian: nghttp2-client).
# usage: bench/router/run.sh [requests, default 150000] [--rollout [--mirror PPM]]: with a rollout, the router counts and
# samples answers for it, or also mirrors
# UNDERSTUDY_BIN: folder of binaries that are built already
set -euo pipefail
cd "$(dirname "$0")/../.."
requests=${1:-150000}
command -v h2load >/dev/null || { echo "h2load is missing: apt-get install nghttp2-client" >&2; exit 1; }
bin=${UNDERSTUDY_BIN:-}
if [ -z "$bin" ]; then
  cargo build --release --quiet -p understudy-router --bin understudy-router --example echo_worker
  bin=${CARGO_TARGET_DIR:-target}/release
fi
work=$(mktemp -d)
pids=()
cleanup() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"; }
trap cleanup EXIT

wait_for() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "gave up waiting: $*" >&2; exit 1; }
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

"$bin/examples/echo_worker" --data-dir "$work/registry" "${@:2}" >"$work/echo" & echo_pid=$!; pids+=("$echo_pid")
wait_for grep -q worker= "$work/echo"
registry=$(sed 's/registry=\([^ ]*\).*/\1/' "$work/echo"); worker=$(sed 's/.*worker=//' "$work/echo")
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

router_port=$(port)
"$bin/understudy-router" --listen "127.0.0.1:$router_port" --metrics-listen 127.0.0.1:0 --registry "http://$registry" \
  --state-dir "$work/state" 2>"$work/router.log" & router_pid=$!; pids+=("$router_pid")
wait_for port_open "$router_port"

targets=("direct call|$worker|$echo_pid" "understudy-router|127.0.0.1:$router_port|$router_pid")
if command -v haproxy >/dev/null; then
  haproxy_port=$(port)
  cat >"$work/haproxy.cfg" <<C
global
  nbthread 2
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:$haproxy_port proto h2
  default_backend out
backend out
  server echo $worker proto h2
C
  haproxy -f "$work/haproxy.cfg" & pids+=("$!"); targets+=("HAProxy|127.0.0.1:$haproxy_port|$!")
  wait_for port_open "$haproxy_port"
fi

python3 -c 'import struct, sys
text = b"x" * 97; message = b"\x0a" + bytes([len(text)]) + text
sys.stdout.buffer.write(b"\0" + struct.pack(">I", len(message)) + message)' >"$work/request"
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
load() { h2load -n"$2" -c4 -m16 -d "$work/request" -H 'content-type: application/grpc' -H 'te: trailers' \
  "http://$1/understudy.v1.Analyst/Classify"; }

wait_for sh -c "h2load -n1 -d '$work/request' -H 'content-type: application/grpc' -H 'te: trailers' http://127.0.0.1:$router_port/understudy.v1.Analyst/Classify"
echo "CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores; $requests unary requests of 99 bytes, 4 connections × 16 streams."
echo
echo "| path | requests/s | process's CPU µs per request | mean latency | failed |"
echo "| --- | --- | --- | --- | --- |"
for target in "${targets[@]}"; do
  IFS='|' read -r name address pid <<<"$target"
  load "$address" $((requests / 10)) >/dev/null
  before=$(cpu_ticks "$pid")
  load "$address" "$requests" >"$work/out"
  after=$(cpu_ticks "$pid")
  rate=$(sed -n 's/^finished in [^,]*, \([0-9.]*\) req.*/\1/p' "$work/out")
  latency=$(awk '/^time for request:/ { print $6 }' "$work/out")
  failed=$(sed -n 's/.* \([0-9]*\) failed.*/\1/p' "$work/out")
  awk -v n="$name" -v r="$rate" -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v q="$requests" -v l="$latency" -v f="$failed" \
    'BEGIN { printf "| %s | %.0f | %.1f | %s | %s |\n", n, r, t / hz * 1e6 / q, l, f }'
done
echo
echo "\"direct call\" is the worker's own CPU; the others are what the proxy adds."
