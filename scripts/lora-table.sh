#!/usr/bin/env bash
# Adapts a checkpoint to two other tasks three ways, and compares on their test splits: as it is, with LoRA, and fully fine-tuned. The
# tasks are the phrases of SST-2, of which there are many, and customer reviews (CR), of which there are few; each with three seeds.
#
#   scripts/lora-table.sh [CHECKPOINT]   [models/starter/v2]
#
# Reads sst2/ and drift/ in $UNDERSTUDY_DATA (default ../shared/data). What is made lies in run/lora; an interrupted run goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}" BASE="${1:-models/starter/v2}" WORK=run/lora
readonly TRAINER="${UNDERSTUDY_BIN:-target/release}/understudy-trainer"
for file in sst2/sst2_train.tsv.zst sst2/sst2_dev.tsv drift/customer_reviews_CR.csv; do
  [ -f "$DATA/$file" ] || {
    echo "lora-table: no $DATA/$file; set UNDERSTUDY_DATA to the folder that holds sst2/ and drift/" >&2
    exit 1
  }
done

command -v zstd >/dev/null || { echo "lora-table: needs the command zstd" >&2; exit 1; }
mkdir -p "$WORK"
{
  zstd -dc "$DATA/sst2/sst2_train.tsv.zst" | sed '1s/$/\tsplit/; 2,$s/$/\ttrain/'
  sed '1d; s/$/\ttest/' "$DATA/sst2/sst2_dev.tsv"
} >"$WORK/sst2.tsv"
awk 'NR == 1 { print $0 ",split" } NR > 1 { print $0 "," (NR % 5 < 2 ? "test" : "train") }' \
  "$DATA/drift/customer_reviews_CR.csv" >"$WORK/cr.csv"

train() { # output, file, further arguments
  local output="$WORK/$1" file="$WORK/$2"
  shift 2
  [ -f "$output/understudy.json" ] || "$TRAINER" train --from "$BASE" --data "$file" --output "$output" --resume \
    --train-tokens 128 --batch-size 32 --threads 1 "$@"
}

for seed in 1 2 3; do
  for file in sst2.tsv cr.csv; do
    task="${file%.*}" epochs=(1 2)
    [ "$task" = sst2 ] || epochs=(8 8)
    train "$task-lora-$seed" "$file" --seed "$seed" --epochs "${epochs[0]}" --learning-rate 0.001 --lora --lora-rank 5 --lora-alpha 5 \
      --lora-targets q_lin,k_lin,v_lin,out_lin,lin1,lin2,word_embeddings
    train "$task-full-$seed" "$file" --seed "$seed" --epochs "${epochs[1]}" --learning-rate 0.0003
    "$TRAINER" compare "$BASE" "$WORK/$task-lora-$seed" "$WORK/$task-full-$seed" --data "$WORK/$file" --split test --threads 1 \
      --output "$WORK/$task-$seed.json"
  done
done
