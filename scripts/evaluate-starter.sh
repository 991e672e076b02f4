#!/usr/bin/env bash
# Measures both starter models on the IMDb test split, as the figures in models/starter/README.md were.
set -euo pipefail
cd "$(dirname "$0")/.."
data="${UNDERSTUDY_DATA:-../shared/data}/imdb/imdb_reviews.csv.zst"
[ -e "$data" ] || { echo "$data is missing: set UNDERSTUDY_DATA to the folder that holds imdb/imdb_reviews.csv.zst" >&2; exit 1; }
for version in v1 v2; do
  echo "starter $version on the test split of $data"
  "${UNDERSTUDY_BIN:-target/release}/understudy-trainer" evaluate "models/starter/$version" --data "$data" --split test
done
