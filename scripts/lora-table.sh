#!/usr/bin/env bash
# Adapts a checkpoint to the sentences of SST-2 three ways, and compares on its dev set: as it is, with LoRA, and fully fine-tuned.
#
#   scripts/lora-table.sh [CHECKPOINT]   [models/starter/v2]
#
# Reads sst2/ in $UNDERSTUDY_DATA (default ../shared/data). What is made lies in run/lora; an interrupted run goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DATA="${UNDERSTUDY_DATA:-../shared/data}/sst2" BASE="${1:-models/starter/v2}" WORK=run/lora
readonly TRAINER="${UNDERSTUDY_BIN:-target/release}/understudy-trainer"
[ -f "$DATA/sst2_train.tsv.zst" ] || {
  echo "lora-table: no $DATA/sst2_train.tsv.zst; set UNDERSTUDY_DATA to the folder that holds sst2/" >&2
  exit 1
}

command -v zstd >/dev/null || { echo "lora-table: needs the command zstd" >&2; exit 1; }
mkdir -p "$WORK"
{
  zstd -dc "$DATA/sst2_train.tsv.zst" | sed '1s/$/\tsplit/; 2,$s/$/\ttrain/'
  sed '1d; s/$/\ttest/' "$DATA/sst2_dev.tsv"
} >"$WORK/sst2.tsv"

train() { # name, further arguments
  local name=$1
  shift
  [ -f "$WORK/$name/understudy.json" ] || "$TRAINER" train --from "$BASE" --data "$WORK/sst2.tsv" --output "$WORK/$name" --resume \
    --train-tokens 64 --batch-size 32 --epochs 1 --threads 1 "$@"
}

train lora --lora --learning-rate 0.003
train full --learning-rate 0.0003
"$TRAINER" compare "$BASE" "$WORK/lora" "$WORK/full" --data "$WORK/sst2.tsv" --split test --threads 1 --output "$WORK/table.json"
