#!/usr/bin/env bash
# Serves the starter scribe and measures it on 100 fact sheets that it has not seen, as the figures in
# models/starter-scribe/README.md were. Arguments go to `understudy-trainer scribe evaluate`, e.g. --sheets 10 --show 3.
# Exits with 1 if fewer than 95% of the figures are supported at the first try.
#
#   UNDERSTUDY_SCRIBE   another GGUF
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}/imdb/imdb_reviews.csv.zst"
readonly SCRIBE="${UNDERSTUDY_SCRIBE:-models/starter-scribe/critic.gguf}"
UNDERSTUDY_BIN="$(cd "${UNDERSTUDY_BIN:-target/release}" && pwd)"
RUN="$(mktemp -d "${TMPDIR:-/tmp}/understudy-scribe.XXXXXX")"
readonly RUN UNDERSTUDY_BIN
export UNDERSTUDY_BIN
unset UNDERSTUDY_ROUTER UNDERSTUDY_REGISTRY UNDERSTUDY_ARTIFACT_STORE UNDERSTUDY_TOKEN UNDERSTUDY_TOKENS

[ -f "$DATA" ] || {
  echo "evaluate-scribe: no $DATA; set UNDERSTUDY_DATA to the folder that holds imdb/" >&2
  exit 1
}

up=""
finish() {
  local code=$?
  trap - EXIT
  if [ -n "$up" ] && kill -TERM "$up" 2>/dev/null; then wait "$up" || true; fi
  rm -rf "$RUN"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

"$UNDERSTUDY_BIN/understudy" up --serve critic/v1="$SCRIBE" --analysts 0 --free-ports --data-dir "$RUN/data" --json \
  --log-format text >"$RUN/ready.json" 2>"$RUN/up.log" &
up=$!
until [ -s "$RUN/ready.json" ]; do
  kill -0 "$up" 2>/dev/null || {
    up=""
    cat "$RUN/up.log" >&2
    exit 1
  }
  sleep 0.1
done
UNDERSTUDY_ROUTER="$(sed 's/.*"router":"\([^"]*\)".*/\1/' "$RUN/ready.json")"
export UNDERSTUDY_ROUTER
"$UNDERSTUDY_BIN/understudy-trainer" scribe evaluate --data "$DATA" "$@"
