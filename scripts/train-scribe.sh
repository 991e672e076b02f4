#!/usr/bin/env bash
# Trains models/starter-scribe/critic.gguf again, from the reviews in $UNDERSTUDY_DATA (default ../shared/data), in about as
# many minutes as $UNDERSTUDY_SCRIBE_MINUTES says (default 70). An interrupted run goes on where it was. What is unfinished lies in
# run/starter-scribe.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}/imdb/imdb_reviews.csv.zst"
readonly BIN="${UNDERSTUDY_BIN:-target/release}"
readonly MINUTES="${UNDERSTUDY_SCRIBE_MINUTES:-70}"
readonly RECIPE=models/starter-scribe/recipe.toml WORK=run/starter-scribe

[ -f "$DATA" ] || {
  echo "train-scribe: no $DATA; set UNDERSTUDY_DATA to the folder that holds imdb/" >&2
  exit 1
}

mkdir -p "$WORK"
[ -f "$WORK/tokenizer.json" ] ||
  "$BIN/understudy-trainer" scribe tokenizer --data "$DATA" --recipe "$RECIPE" --output "$WORK/tokenizer.json"
# Its threads wait for each other often: spinning would take the processor from whatever else runs.
OMP_WAIT_POLICY=passive "$BIN/understudy-trainer" scribe train --data "$DATA" --recipe "$RECIPE" \
  --tokenizer "$WORK/tokenizer.json" --output "$WORK/trained" --minutes "$MINUTES" --resume
"$BIN/understudy-trainer" scribe export "$WORK/trained" --output "$WORK/critic-f32.gguf"
"$BIN/understudy-scribe" quantize "$WORK/critic-f32.gguf" "$WORK/critic.gguf" --type q4_k_m
mv "$WORK/critic.gguf" models/starter-scribe/critic.gguf
echo "train-scribe: models/starter-scribe/critic.gguf is new; delete $WORK to train it again" >&2
