#!/usr/bin/env bash
# Shows the platform at work on the starter models. It only calls what a user would call, and prints each call.
# Exits with 1 if a request failed, or if the split was off by more than one request.
#
#   UNDERSTUDY_BIN           folder of the built binaries [target/release]
#   UNDERSTUDY_DEMO_MODELS   folder with the checkpoints v1 and v2 [models/starter]
#   UNDERSTUDY_DEMO_SCRIBE   GGUF that writes the critique [models/starter-scribe/critic.gguf]
set -euo pipefail
cd "$(dirname "$0")/.."

readonly MODELS="${UNDERSTUDY_DEMO_MODELS:-models/starter}" REVIEWS=demo/reviews.csv
readonly SCRIBE="${UNDERSTUDY_DEMO_SCRIBE:-models/starter-scribe/critic.gguf}"
UNDERSTUDY_BIN="$(cd "${UNDERSTUDY_BIN:-target/release}" && pwd)"
RUN="$(mktemp -d "${TMPDIR:-/tmp}/understudy-demo.XXXXXX")"
readonly RUN UNDERSTUDY_BIN
export UNDERSTUDY_BIN PATH="$UNDERSTUDY_BIN:$PATH"
# Nothing that this shell was set up for may lead the demo to another platform.
unset UNDERSTUDY_ROUTER UNDERSTUDY_REGISTRY UNDERSTUDY_ARTIFACT_STORE UNDERSTUDY_TOKEN UNDERSTUDY_TOKENS

bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
show() {
  printf '$'
  for word in "$@"; do
    case "$word" in *\ *) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
  done
  printf '\n'
}
run() { show "$@"; "$@"; }

up=""
finish() {
  local code=$?
  trap - EXIT
  if [ -n "$up" ] && kill -TERM "$up" 2>/dev/null; then wait "$up" || true; fi
  if [ "$code" -eq 0 ]; then
    rm -rf "$RUN"
  else
    bold "The demo failed. The platform's last lines (all of them: $RUN/up.log):"
    tail -n 20 "$RUN/up.log" 2>/dev/null || true
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

bold "The platform starts, and serves an analyst and a scribe"
show understudy up --serve sentiment/v1="$MODELS/v1" --serve critic/v1="$SCRIBE" --free-ports '&'
understudy up --serve sentiment/v1="$MODELS/v1" --serve critic/v1="$SCRIBE" --free-ports --data-dir "$RUN/data" --json --log-format text \
  >"$RUN/ready.json" 2>"$RUN/up.log" &
up=$!
until [ -s "$RUN/ready.json" ]; do
  kill -0 "$up" 2>/dev/null || { up=""; exit 1; }
  sleep 0.1
done
UNDERSTUDY_ROUTER="$(sed 's/.*"router":"\([^"]*\)".*/\1/' "$RUN/ready.json")"
export UNDERSTUDY_ROUTER
run understudy classify "A wonderful film with great performances." "A dull, lifeless film that wastes a fine cast."

bold "v1 reads a file of reviews"
run understudy classify --file "$REVIEWS" --out "$RUN/v1.csv" | tee "$RUN/classify-v1"

bold "v2 is published"
run understudy models publish "$MODELS/v2" --model sentiment --version v2

bold "Workers load v2 while callers go on, and it gets 10 of 100 requests"
run understudy load --file "$REVIEWS" --duration 4s \
  -- understudy route set sentiment stable=v1:90 canary=v2:10 | tee "$RUN/load-split"

bold "The split is counted"
run understudy load --file "$REVIEWS" --requests 1000 --check-split | tee "$RUN/load-count"

bold "All traffic moves to v2 while callers go on, and v1 is freed"
run understudy load --file "$REVIEWS" --duration 4s \
  -- understudy route set sentiment v2 --drained | tee "$RUN/load-swap"

bold "v2 reads the same file"
run understudy classify --file "$REVIEWS" --out "$RUN/v2.csv" | tee "$RUN/classify-v2"
run understudy status

bold "The reviews become statistics, and the statistics a critique"
run understudy critique "$REVIEWS"

bold "The platform stops"
kill -TERM "$up"
wait "$up"
up=""

bold "Report"
awk '$1 == "all" { gsub(",", ""); sent += $2; failed += $3 }
     END { printf "requests  %d under load, %d failed\n", sent, failed }' "$RUN"/load-*
sed -n 's/^split: /split     /p' "$RUN/load-count"
sed -n 's/^\(v[12]\): .*accuracy /accuracy  \1: /p' "$RUN/classify-v1" "$RUN/classify-v2"
printf 'the swap to v2 under load:\n'
sed -n '/^PHASE/,/^after/s/^/  /p' "$RUN/load-swap"
