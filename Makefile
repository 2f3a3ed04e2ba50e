# Tasks of this repository. Each target first installs what it needs.
SHELL := /usr/bin/env bash -o pipefail
ENV := . scripts/env.sh

.PHONY: help setup demo install kafka test chaos simulate fuzz bench bench-flink bench-batch lint fmt

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: ## install missing dependencies
	@scripts/setup.sh test

demo: ## build, then run the toll-booth example on the embedded engine
	@scripts/demo.sh

install: ## build in release, and install engine and engine-cli into PREFIX/bin: make install [PREFIX=~/.local]
	@PREFIX="$(PREFIX)" scripts/install.sh

kafka: ## a Kafka broker on 127.0.0.1:9092 in the background; scripts/kafka.sh: topic, produce, consume, stop
	@scripts/kafka.sh start

test: ## all tests, those with a real Kafka broker included
	@scripts/test.sh

chaos: ## a cluster and its broker under random faults and commands: make chaos KILLS=1000 [SEED=...]
	@$(ENV) && cargo build --workspace --bins && KILLS=$(KILLS) SEED=$(SEED) cargo test --workspace --test cluster chaos -- --nocapture

fuzz: ## fuzz every decoder and the planner until stopped: make fuzz [TARGET=json] [RUNS=100000] [SEED=...]
	@scripts/fuzz.sh "$(TARGET)" "$(RUNS)" "$(SEED)"

simulate: ## clusters in one thread, with faults determined by a seed: make simulate SEEDS=10000 [FIRST=...], or SEED=17 for one
	@$(ENV) && SEEDS=$(SEEDS) FIRST=$(FIRST) SEED=$(SEED) cargo test --workspace --test simulation no_seed -- --nocapture

bench: ## benchmarks in release mode: Nexmark, Kafka to Kafka, latency, large state, sessions
	@scripts/bench.sh $(BENCH)

bench-flink: ## Nexmark on this engine and on Apache Flink, alternating: make bench-flink BENCH="--pairs 5 q0 q5", BENCH=--check
	@scripts/bench-flink.sh $(BENCH)

bench-batch: ## queries of TPC-H over Parquet files on this engine and on DuckDB, alternating: make bench-batch BENCH="--scale 10 q1"
	@scripts/bench-batch.sh $(BENCH)

lint: ## formatting, clippy, module cycles, comments, deploy/, dependencies
	@scripts/lint.sh

fmt: ## format the code
	@$(ENV) && cargo fmt --all
