# The front door. `make help` lists everything; each target first installs what it lacks, which takes no time when nothing is missing.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What Debian does not have (Kafka, grpcurl, …) lives in one folder that survives clones.
LINKMESH_TOOLS := $(shell scripts/setup.sh where)
export LINKMESH_TOOLS
export PATH := $(LINKMESH_TOOLS)/bin:$(PATH):$(LINKMESH_TOOLS)/venv/bin

LINKMESH := target/release/linkmesh
# `--workspace` always: another selection of packages would compile shared crates a second time.
BUILD := cargo build --workspace --bin linkmesh

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## everything in one process, with its own Postgres; prints an API key
	@scripts/setup.sh run
	@$(BUILD)
	@exec target/debug/linkmesh dev

.PHONY: up
up: ## everything in separate processes, with real etcd, Redis, Kafka and Postgres
	@scripts/setup.sh up
	@$(BUILD) --bin load --release
	@$(LINKMESH) up start

.PHONY: down
down: ## stop what `make up` started, and remove its data
	@if [ -x $(LINKMESH) ]; then $(LINKMESH) up down; else echo 'nothing is up'; fi

.PHONY: test
test: ## all tests, on real servers that they start themselves
	@scripts/setup.sh test
	@scripts/test.sh

.PHONY: test-long
test-long: ## the tests that take minutes, such as Kafka away for longer than a client's default time-out
	@scripts/setup.sh test
	cargo test --workspace --features system-tests/long --test long

.PHONY: conformance
conformance: ## the edge's gRPC, gRPC-Web and Connect by connectconformance
	@scripts/setup.sh conformance
	@cargo build --workspace --bin conformance
	@connectconformance --mode server --conf tests/conformance/suite.yaml -- target/debug/conformance

.PHONY: http2
http2: ## the edge's HTTP/2 beside hyper's, by httpwg
	@scripts/setup.sh conformance
	@cargo build --workspace --bin conformance
	@scripts/http2.sh

.PHONY: openapi
openapi: ## the edge beside its OpenAPI document, by redocly and schemathesis
	@scripts/setup.sh test
	cargo test --workspace --test system -- the_openapi_document

.PHONY: lint
lint: ## formatting, clippy, protos, manifests, shell scripts
	@scripts/setup.sh lint
	@scripts/lint.sh

.PHONY: bench
bench: ## what it costs, beside peers in the same run; make bench-NAME for one
	@scripts/setup.sh bench
	@$(BUILD) --bin bench --profile dist
	@target/dist/bench

bench-%:
	@scripts/setup.sh bench
	@$(BUILD) --bin bench --profile dist
	@target/dist/bench $*

.PHONY: fmt
fmt: ## format the code
	@scripts/setup.sh lint
	cargo fmt --all
