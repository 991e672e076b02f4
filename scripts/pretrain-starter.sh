#!/usr/bin/env bash
# Pretrains the language model that models/starter/v2 and models/starter-spoilers begin from, on one thread, from the reviews in
# $UNDERSTUDY_DATA (default ../shared/data), into run/starter/pretrained. An interrupted run goes on where it was; a finished one stays.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}/imdb"
readonly OUTPUT=run/starter/pretrained

for file in imdb_reviews.csv.zst imdb_unlabelled.csv.zst; do
  [ -f "$DATA/$file" ] || {
    echo "pretrain-starter: no $DATA/$file; set UNDERSTUDY_DATA to the folder that holds imdb/" >&2
    exit 1
  }
done
[ -f "$OUTPUT/pretraining.json" ] ||
  "${UNDERSTUDY_BIN:-target/release}/understudy-trainer" pretrain --recipe models/starter/pretrain.toml \
    --data "$DATA/imdb_reviews.csv.zst" --unlabelled "$DATA/imdb_unlabelled.csv.zst" --output "$OUTPUT" --threads 1 --resume
