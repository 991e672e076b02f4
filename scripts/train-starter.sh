#!/usr/bin/env bash
# Trains models/starter/v1 and v2 again, on one thread, from the reviews in $UNDERSTUDY_DATA (default ../shared/data).
# v1 learns from labels alone. v2 is pretrained as a language model, with its vocabulary, and then learns from labels and from a
# baseline. An interrupted run goes on where it was. Unfinished checkpoints lie in run/starter.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}/imdb"
readonly BIN="${UNDERSTUDY_BIN:-target/release}"
readonly WORK=run/starter

[ -f "$DATA/imdb_reviews.csv.zst" ] || {
  echo "train-starter: no $DATA/imdb_reviews.csv.zst; set UNDERSTUDY_DATA to the folder that holds imdb/" >&2
  exit 1
}

train() { # version, further arguments
  local version=$1 folder="$WORK/$1"
  shift
  [ -f "$folder/understudy.json" ] || "$BIN/understudy-trainer" train --recipe "models/starter/$version.toml" \
    --data "$DATA/imdb_reviews.csv.zst" "$@" --output "$folder" --threads 1 --resume
  "$BIN/understudy-trainer" evaluate "$folder" --data "$DATA/imdb_reviews.csv.zst" --split test --write-card \
    --output "$folder/test.json" --threads 1
  rm -rf "models/starter/$version"
  cp -r "$folder" "models/starter/$version"
}

train v1
scripts/pretrain-starter.sh
train v2 --from "$WORK/pretrained" --unlabelled "$DATA/imdb_unlabelled.csv.zst"
cp "$WORK/pretrained/pretraining.json" models/starter/v2/pretraining.json
echo "train-starter: models/starter is new; delete $WORK to train it again" >&2
