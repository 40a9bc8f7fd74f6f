# Two commands: `make up` starts the cluster, `make test` passes all tests. Each installs what it needs.
SHELL := /bin/bash
CARGO ?= cargo
PLINTH := target/release/plinth
UP_FLAGS ?=

.PHONY: up down demo status build deps tools test bench-start bench-store bench-scheduler example-plugin clean

up: build
	@exec $(PLINTH) up $(UP_FLAGS)

down:
	@if [ -x $(PLINTH) ]; then $(PLINTH) down; else echo "nothing was built here: nothing to take down"; fi

demo: build
	@exec $(PLINTH) demo

status: build
	@exec $(PLINTH) status

build: deps
	@$(CARGO) build --release --locked -p plinth

# What the build needs of Debian: quick when it is there.
deps:
	@tools/deps.sh build

# kubectl 1.36 and etcdctl 3.5 in .tools/bin, for the tests and the tour.
tools:
	@tools/install.sh

test:
	@tools/deps.sh build test
	@tools/test.sh

bench-start: build tools
	@$(CARGO) build --release --locked -p bench
	@target/release/bench start

bench-store: build tools
	@$(CARGO) build --release --locked -p bench
	@target/release/bench store

# A Wasm plugin for the scheduler: see examples/scheduler-plugin.
example-plugin:
	@tools/deps.sh build test
	@mkdir -p target
	@examples/scheduler-plugin/build.sh target/scheduler-plugin.wasm

# Beside a real kube-scheduler where KUBE_SCHEDULER names one.
bench-scheduler: build
	@$(CARGO) build --release --locked -p bench
	@target/release/bench scheduler --decisions-only
	@target/release/bench scheduler
