#!/usr/bin/env bash
# Trains models/starter/v1 and v2 again, on one thread, from the reviews in $UNDERSTUDY_DATA (default ../shared/data).
# v1 learns from labels alone. v2 is pretrained as a language model, with its vocabulary, learns from labels and from a baseline, and
# then once more from the baseline and what it has become. An interrupted run goes on where it was. Unfinished checkpoints lie in
# run/starter.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}/imdb"
readonly BIN="${UNDERSTUDY_BIN:-target/release}"
readonly WORK=run/starter

[ -f "$DATA/imdb_reviews.csv.zst" ] || {
  echo "train-starter: no $DATA/imdb_reviews.csv.zst; set UNDERSTUDY_DATA to the folder that holds imdb/" >&2
  exit 1
}

train() { # folder in run/starter, recipe, further arguments
  local folder="$WORK/$1" recipe="models/starter/$2.toml"
  shift 2
  [ -f "$folder/understudy.json" ] || "$BIN/understudy-trainer" train --recipe "$recipe" --data "$DATA/imdb_reviews.csv.zst" "$@" \
    --output "$folder" --threads 1 --resume
}

finish() { # version
  "$BIN/understudy-trainer" evaluate "$WORK/$1" --data "$DATA/imdb_reviews.csv.zst" --split test --write-card \
    --output "$WORK/$1/test.json" --threads 1
  rm -rf "models/starter/$1"
  cp -r "$WORK/$1" "models/starter/$1"
}

train v1 v1
finish v1
scripts/pretrain-starter.sh
train first v2 --from "$WORK/pretrained" --unlabelled "$DATA/imdb_unlabelled.csv.zst"
train v2 v2 --from "$WORK/first" --distil-from "naive-bayes,$WORK/first" --unlabelled "$DATA/imdb_unlabelled.csv.zst"
cp "$WORK/pretrained/pretraining.json" "$WORK/v2/pretraining.json"
finish v2
echo "train-starter: models/starter is new; delete $WORK to train it again" >&2
