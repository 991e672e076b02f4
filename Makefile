# `make demo` shows the platform at work, `make test` proves it. Both install what is missing first.

CACHE := $(or $(UNDERSTUDY_CACHE),$(HOME)/.cache/understudy)
# The same libtorch for every clone, and the same path: a changed path would rebuild the native code.
export LIBTORCH ?= $(CACHE)/libtorch-2.11.0
export CARGO_TARGET_DIR ?= $(CURDIR)/target
BIN := $(CARGO_TARGET_DIR)/release
CARGO_DENY := $(or $(shell command -v cargo-deny),$(CACHE)/bin/cargo-deny)

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Installs what building and running needs (Debian packages, libtorch)
	@scripts/setup.sh

.PHONY: build
build: setup ## Builds every binary into target/release
	cargo build --release --workspace --bins

.PHONY: demo
demo: build ## Runs the platform on real models: serve, split, swap under load, report
	UNDERSTUDY_BIN=$(BIN) demo/run.sh

.PHONY: test
test: setup-test lint test-rust test-system ## Runs all checks and tests

.PHONY: setup-test
setup-test:
	@scripts/setup.sh --test

.PHONY: lint
lint: ## Formatter, clippy, docs, licences, spelling
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --quiet
	$(CARGO_DENY) --log-level error check licenses bans sources
	$(CACHE)/venv-test/bin/typos

.PHONY: test-rust
test-rust: ## The Rust tests
	cargo test --release --workspace --no-fail-fast

.PHONY: test-system
test-system: ## Tests of the running platform, with Python clients and etcdctl
	cargo build --release --workspace --bins
	UNDERSTUDY_BIN=$(BIN) $(CACHE)/venv-test/bin/python -m pytest tests/system

.PHONY: test-mlflow
test-mlflow: ## Trains against a real MLflow server (installs MLflow, 850 MB)
	@scripts/setup.sh --mlflow
	cargo build --release -p understudy-trainer
	UNDERSTUDY_BIN=$(BIN) $(CACHE)/venv-mlflow/bin/python tests/mlflow/check.py

.PHONY: test-mpi
test-mpi: ## Trains in several processes and compares with one (installs Open MPI, 88 MB)
	@scripts/setup.sh --mpi
	cargo clippy --release -p understudy-trainer --all-targets --features mpi -- -D warnings
	cargo test --release -p understudy-trainer --features mpi --test parallel -- --nocapture --test-threads 1

.PHONY: descriptors
descriptors: ## Releases the contract: run after a compatible change of proto/
	cargo run --release --quiet -p understudy-protocol --example descriptors > proto/descriptors/understudy.v1.binpb.new
	mv proto/descriptors/understudy.v1.binpb.new proto/descriptors/understudy.v1.binpb

.PHONY: train-starter
train-starter: build ## Trains models/starter again (needs UNDERSTUDY_DATA, takes about an hour and a half of one thread)
	UNDERSTUDY_BIN=$(BIN) scripts/train-starter.sh

.PHONY: train-spoilers
train-spoilers: build ## Trains models/starter-spoilers again (needs UNDERSTUDY_DATA, takes half an hour, and as long for the language model if it is not there)
	UNDERSTUDY_BIN=$(BIN) scripts/train-spoilers.sh

.PHONY: compare-lora
compare-lora: build ## Compares LoRA with full fine-tuning on SST-2 (needs UNDERSTUDY_DATA, takes about a quarter of an hour)
	UNDERSTUDY_BIN=$(BIN) scripts/lora-table.sh

.PHONY: evaluate-starter
evaluate-starter: build ## Evaluates models/starter on the IMDb test split (needs UNDERSTUDY_DATA)
	UNDERSTUDY_BIN=$(BIN) scripts/evaluate-starter.sh

.PHONY: train-scribe
train-scribe: build ## Trains models/starter-scribe again (needs UNDERSTUDY_DATA, takes about 70 minutes)
	UNDERSTUDY_BIN=$(BIN) scripts/train-scribe.sh

.PHONY: evaluate-scribe
evaluate-scribe: build ## Counts the supported figures of the starter scribe on 100 unseen fact sheets (needs UNDERSTUDY_DATA)
	UNDERSTUDY_BIN=$(BIN) scripts/evaluate-scribe.sh

.PHONY: bench
bench: ## Measures against transformers, ONNX Runtime and a direct call, and writes the tables to the terminal
	@scripts/setup.sh --bench
	cargo build --release --workspace --bins --examples
	UNDERSTUDY_BIN=$(BIN) bench/run.sh

.PHONY: bench-mirror
bench-mirror: setup-test ## Measures what mirroring to bad candidates costs clients, in 5 minutes; wants a quiet machine (FLAGS="--cycles 3")
	cargo build --release -p understudy-cli -p understudy-router -p understudy-analyst-worker --bins --example open_loop
	UNDERSTUDY_BIN=$(BIN) $(CACHE)/venv-test/bin/python bench/router/mirror.py $(FLAGS)

.PHONY: bench-rollback
bench-rollback: setup-test ## Measures how long after the decision a rollback takes effect on two routers, 50 times, in 4 minutes
	cargo build --release -p understudy-cli -p understudy-router -p understudy-analyst-worker --bins
	UNDERSTUDY_BIN=$(BIN) $(CACHE)/venv-test/bin/python bench/router/rollback.py $(FLAGS)

.PHONY: bench-train
bench-train: build ## Measures a training step beside Python's transformers (takes about 15 minutes)
	@scripts/setup.sh --bench
	UNDERSTUDY_BIN=$(BIN) $(CACHE)/venv-bench/bin/python bench/train/run.py

.PHONY: simulate
simulate: ## Simulates thousands of rollouts beside the rules in use elsewhere, into docs/simulation.md (RUNS=1000)
	cargo run --release -p understudy-simulation -- --runs $(or $(RUNS),1000)

.PHONY: bench-scribe
bench-scribe: build ## Measures the scribe beside llama.cpp's own server (SHAPES="--shape 8b" for 8 billion parameters)
	@scripts/setup.sh --bench
	UNDERSTUDY_BIN=$(BIN) $(CACHE)/venv-bench/bin/python bench/scribe/run.py $(SHAPES)
