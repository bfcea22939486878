# The verbs of README.md. Everything that they need is installed first (packaging/bootstrap).
.PHONY: help run stop test bootstrap-tests fuzz soak soak-locks kernel-locks chaos cluster-soak lint bench docs lock bootstrap
.DEFAULT_GOAL := help

# Where it is set, each of some thousand processes would compile what it imports: twice the time of its start.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
BESIDE := $(BIN)/python -m tests.beside
PYTEST := $(BIN)/python -m pytest -q

help:
	@echo "make run    start a lab of three hosts and show what poolnet does"
	@echo "make stop   remove that lab"
	@echo "make test   lint, types, import rules and every test"
	@echo "make soak   500 changes that would cut hosts off: none may be lost (about an hour)"
	@echo "make soak-locks  10,000 changes of locks and 50 deaths of the switch under attack: nothing may pass"
	@echo "make kernel-locks  all attacks on locks with Open vSwitch in a kernel of its own (some minutes)"
	@echo "make chaos  1000 changes of a pool with faults (N=… for another number)"
	@echo "make cluster-soak  50 deaths, 20 cuts and 14 pairs apart in a pool whose database is on a cluster (KILLS=… CUTS=… PAIRS=… SERVERS=5)"
	@echo "make fuzz   an hour of random requests to every door (MINUTES=… for another time)"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make bench  measure, each number beside its floor"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "make lock   pin the dependencies of pyproject.toml anew"

bootstrap:
	@sh packaging/bootstrap

bootstrap-tests:
	@sh packaging/bootstrap tests

run: bootstrap
	@$(BIN)/poolnet tour

stop:
	@if [ -x $(BIN)/poolnet ]; then $(BIN)/poolnet lab down; fi

lint: bootstrap
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: bootstrap-tests
	$(BESIDE) --beside "nice -n 10 make lint" --beside '$(PYTEST) -m "kernel and not long" tests/kernel' \
		nice -n 5 $(PYTEST) -n 2 -m "not lab and not kernel"
	$(BESIDE) --behind "$(BIN)/python -m tests.fuzz --minutes 5" \
		$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "lab and not kernel" tests/lab tests/manual
	$(BESIDE) $(PYTEST) -n 2 --dist load -m "kernel and long" tests/kernel

soak: bootstrap-tests
	@$(BIN)/python -m tests.lab.no_host_lost --changes 500

soak-locks: bootstrap-tests
	@$(BIN)/python -m tests.lab.lock_soak

kernel-locks: bootstrap-tests
	@$(BIN)/python -m tests.kernel.whole_adversary

N ?= 1000
chaos: bootstrap-tests
	@$(BIN)/python -m tests.lab.pool_chaos --changes $(N)

KILLS ?= 50
CUTS ?= 20
PAIRS ?= 14
SERVERS ?= 3
cluster-soak: bootstrap-tests
	@$(BIN)/python -m tests.lab.cluster_soak --kills $(KILLS) --cuts $(CUTS) --pairs $(PAIRS) --servers $(SERVERS)

MINUTES ?= 60
fuzz: bootstrap-tests
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

bench: bootstrap-tests
	@$(BIN)/python -m bench

docs: bootstrap
	@$(BIN)/sphinx-build -q -W -b html docs docs/_build/html

lock: bootstrap
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--group dev --group docs --output-file requirements.lock pyproject.toml
