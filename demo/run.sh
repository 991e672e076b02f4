#!/usr/bin/env bash
# Shows the platform at work on the starter models. It only calls what a user would call, and prints each call.
# Exits with 1 if a request failed that should not, if the split was off by more than one request, or if a rollout did not end
# as it should.
#
#   UNDERSTUDY_BIN           folder of the built binaries [target/release]
#   UNDERSTUDY_DEMO_MODELS   folder with the checkpoints v1 and v2 [models/starter]
#   UNDERSTUDY_DEMO_SCRIBE   GGUF that writes the critique [models/starter-scribe/critic.gguf]
set -euo pipefail
cd "$(dirname "$0")/.."

readonly MODELS="${UNDERSTUDY_DEMO_MODELS:-models/starter}" REVIEWS=demo/reviews.csv
readonly SPOILERS=models/starter-spoilers
readonly SCRIBE="${UNDERSTUDY_DEMO_SCRIBE:-models/starter-scribe/critic.gguf}"
UNDERSTUDY_BIN="$(cd "${UNDERSTUDY_BIN:-target/release}" && pwd)"
RUN="$(mktemp -d "${TMPDIR:-/tmp}/understudy-demo.XXXXXX")"
readonly RUN UNDERSTUDY_BIN
export UNDERSTUDY_BIN PATH="$UNDERSTUDY_BIN:$PATH"
# Nothing that this shell was set up for may lead the demo to another platform.
unset UNDERSTUDY_ROUTER UNDERSTUDY_REGISTRY UNDERSTUDY_ARTIFACT_STORE UNDERSTUDY_TOKEN UNDERSTUDY_TOKENS \
  UNDERSTUDY_INJECT_FAULT

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

# A rollout under load: VERSION, the exit code that it must have (0 promoted, 3 rolled back), further flags.
roll_out() {
  local version=$1 expected=$2
  shift 2
  local rollout=(understudy rollout start sentiment "$version" --spec demo/rollout.yaml --wait "$@")
  show understudy load --file "$REVIEWS" --concurrency 2 --duration 1s -- "${rollout[@]}"
  # The load fails with the requests that a bad version fails; what counts is how the rollout ended.
  understudy load --file "$REVIEWS" --concurrency 2 --duration 1s --timeline "$RUN/timeline-$version" \
    -- sh -c '"$@"; echo $? >"$0"' "$RUN/exit-$version" "${rollout[@]}" >"$RUN/rollout-$version" || true
  grep -E '^(PHASE|before|during|after|VERSION|v[0-9]) ' "$RUN/rollout-$version" || true
  if [ "$(cat "$RUN/exit-$version")" != "$expected" ]; then
    echo "The rollout of $version should have ended with exit code $expected, and did with $(cat "$RUN/exit-$version")."
    understudy rollout status sentiment || true
    exit 1
  fi
  understudy rollout status sentiment --json | sed -n 's/^ *"reason": "\(.*\)",\{0,1\}$/\1/p' | head -n 1 >"$RUN/reason-$version"
}

# What became of a rollout: the version's share of the answers, and the failed requests.
tell_rollout() {
  local version=$1 outcome
  case "$(cat "$RUN/exit-$version")" in 0) outcome="promoted" ;; *) outcome="rolled back" ;; esac
  awk -F, -v version="$version" -v outcome="$outcome" 'NR > 1 { all++; its += $4 == version; failed += $3 != "OK" && $3 != "Ok" }
    END { printf "  %-3s %-12s answered %5d of %5d requests (%4.1f%%), %d failed\n", version, outcome, its, all, all ? 100 * its / all : 0, failed }' \
    "$RUN/timeline-$version"
  if [ "$outcome" = "rolled back" ]; then sed 's/^/      because: /' "$RUN/reason-$version"; fi
}

bold "The platform starts, and serves an analyst and a scribe; two versions to come are made bad ones on purpose"
up_flags=(--serve sentiment/v1="$MODELS/v1" --serve critic/v1="$SCRIBE" --free-ports
  --inject-fault sentiment/v4:delay=40ms --inject-fault sentiment/v5:error=0.3)
show understudy up "${up_flags[@]}" '&'
understudy up "${up_flags[@]}" --data-dir "$RUN/data" --json --log-format text >"$RUN/ready.json" 2>"$RUN/up.log" &
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

bold "v2 is published, and gets 10 of 100 requests; the split is counted"
run understudy models publish "$MODELS/v2" --model sentiment --version v2
run understudy route set sentiment stable=v1:90 canary=v2:10
run understudy load --file "$REVIEWS" --requests 1000 --check-split | tee "$RUN/load-count"

bold "All traffic goes back to v1 while callers go on, and v2 is freed"
run understudy load --file "$REVIEWS" --duration 1s \
  -- understudy route set sentiment v1 --drained | tee "$RUN/load-swap"

bold "A rollout brings v2 into service with no hand: shadowed, compared, 1, 5, 25, 50 and 100% of the traffic"
run cat demo/rollout.yaml
roll_out v2 0
cp "$RUN/rollout-v2" "$RUN/load-v2"
run understudy classify --file "$REVIEWS" --out "$RUN/v2.csv" | tee "$RUN/classify-v2"

bold "v3 has its labels swapped: comparing answers catches it before it answers anyone"
cp -r "$MODELS/v2" "$RUN/v3"
rm "$RUN/v3/understudy.json" # its golden examples would give v3 away before it is loaded
sed 's/NEGATIVE/@/g; s/POSITIVE/NEGATIVE/g; s/@/POSITIVE/g' "$MODELS/v2/config.json" >"$RUN/v3/config.json"
run understudy models publish "$RUN/v3" --model sentiment --version v3
roll_out v3 3
grep -q '^the agreement gate' "$RUN/reason-v3"
cp "$RUN/rollout-v3" "$RUN/load-v3"
run understudy rollout diff sentiment --limit 3

bold "v4 is slow: it is tried on clients at once, and goes back after a few of them"
run understudy models publish "$MODELS/v2" --model sentiment --version v4
roll_out v4 3 --no-shadow
cp "$RUN/rollout-v4" "$RUN/load-v4"

bold "v5 fails three calls of ten"
run understudy models publish "$MODELS/v2" --model sentiment --version v5
roll_out v5 3 --no-shadow
run understudy rollout history sentiment
run understudy status

bold "The reviews become statistics, and the statistics a critique"
run understudy critique "$REVIEWS"

bold "A second analyst is served beside it, for another task"
run understudy models publish "$SPOILERS" --model spoilers --version v1
run understudy route set spoilers v1
run understudy classify --model spoilers "He was dead all along, and she is his sister." "Lovely music, and not a dull minute."

bold "The platform stops"
kill -TERM "$up"
wait "$up"
up=""

bold "Report"
awk '$1 == "all" { gsub(",", ""); sent += $2; failed += $3 }
     END { printf "requests  %d under load, %d failed (but those of v5)\n", sent, failed; exit failed > 0 }' "$RUN"/load-*
sed -n 's/^split: /split     /p' "$RUN/load-count"
sed -n 's/^\(v[12]\): .*accuracy /accuracy  \1: /p' "$RUN/classify-v1" "$RUN/classify-v2"
printf 'rollouts\n'
for version in v2 v3 v4 v5; do tell_rollout "$version"; done
printf 'back to v1 under load:\n'
sed -n '/^PHASE/,/^after/s/^/  /p' "$RUN/load-swap"
