#!/usr/bin/env bash
# Trains models/starter-spoilers again, on one thread, from the reviews in $UNDERSTUDY_DATA (default ../shared/data) and the language
# model of scripts/pretrain-starter.sh, and compares it with TF-IDF. An interrupted run goes on where it was. The unfinished checkpoint
# lies in run/spoilers.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}"
readonly BIN="${UNDERSTUDY_BIN:-target/release}" WORK=run/spoilers MODEL=models/starter-spoilers
readonly REVIEWS="$DATA/spoiler/spoiler_weak.csv.zst" UNLABELLED="$DATA/imdb/imdb_unlabelled.csv.zst"

for file in "$REVIEWS" "$UNLABELLED"; do
  [ -f "$file" ] || {
    echo "train-spoilers: no $file; set UNDERSTUDY_DATA to the folder that holds spoiler/ and imdb/" >&2
    exit 1
  }
done

scripts/pretrain-starter.sh
if [ ! -f "$WORK/understudy.json" ]; then
  "$BIN/understudy-trainer" train --recipe "$MODEL/recipe.toml" --from run/starter/pretrained --data "$REVIEWS" --label-column is_spoiler \
    --label-names NO_SPOILER,SPOILER --unlabelled "$UNLABELLED" --output "$WORK" --threads 1 --resume
fi
"$BIN/understudy-trainer" evaluate "$WORK" --data "$REVIEWS" --label-column is_spoiler --split validation --cluster movie_id \
  --write-card --threads 1
"$BIN/understudy-trainer" compare "$WORK" baseline --data "$REVIEWS" --label-column is_spoiler --split validation --by roc-auc \
  --cluster movie_id --threads 1
for file in config.json model.safetensors tokenizer.json tokenizer_config.json training.json understudy.json; do
  cp "$WORK/$file" "$MODEL/$file"
done
echo "train-spoilers: $MODEL is new; delete $WORK to train it again" >&2
