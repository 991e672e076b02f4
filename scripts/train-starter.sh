#!/usr/bin/env bash
# Trains models/starter/v1 and v2 again, on one thread, from the reviews in $UNDERSTUDY_DATA (default ../shared/data).
# An interrupted run goes on where it was. Unfinished checkpoints lie in run/starter.
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
  local version=$1
  shift
  if [ ! -f "$WORK/$version/understudy.json" ]; then
    "$BIN/understudy-trainer" train --recipe "models/starter/$version.toml" --data "$DATA/imdb_reviews.csv.zst" "$@" \
      --output "$WORK/$version" --threads 1 --resume
  fi
  "$BIN/understudy-trainer" evaluate "$WORK/$version" --data "$DATA/imdb_reviews.csv.zst" --split test --write-card \
    --output "$WORK/$version/test.json"
  rm -rf "models/starter/$version"
  cp -r "$WORK/$version" "models/starter/$version"
}

train v1
train v2 --unlabelled "$DATA/imdb_unlabelled.csv.zst"
echo "train-starter: models/starter is new; delete $WORK to train it again" >&2
