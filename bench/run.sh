#!/usr/bin/env bash
# All comparisons, as Markdown on standard output; figures that were kept are in docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")"
venv="${UNDERSTUDY_CACHE:-$HOME/.cache/understudy}/venv-bench"

echo "## Router: cost of a request"
router/run.sh
echo
echo "## Analyst: DistilBERT-base shape"
"$venv/bin/python" analyst/run.py
