# Two commands on a fresh machine with Python 3.11 or newer and make:
#   make run     set up .venv and run sim.yaml
#   make test    set up .venv and run the tests
# A third command takes minutes: make test-long runs the tests that `make test` leaves out. A fourth takes
# hours: make test-faults does every fault of tests/faults to real deployments, and runs on clusters.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With real data more tests run: in the folder the user names, or one found in or next to the checkout.
FOUND := $(firstword $(wildcard $(addsuffix /omniglot/omniglot28.npz,data ../data ../*/data)))
export METAWARD_DATA ?= $(abspath $(FOUND:/omniglot/omniglot28.npz=))
# Without a cache of bytecode every process compiles all libraries anew, which takes seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-long test-faults lint types build bench clean

run: $(VENV)/installed
	$(BIN)/metaward run $(ARGS)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(ARGS)

test-long: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m long $(ARGS)

test-faults: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 1 -m faults $(ARGS)

# On an idle machine only, where both sides of a ratio have the same processor: some half an hour.
# benchmarks/gpu.py is for a machine with a GPU.
bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/fused.py
	$(BIN)/python benchmarks/ghost.py
	$(BIN)/python benchmarks/together.py --out benchmarks/results/together.json
	$(BIN)/python benchmarks/overhead.py --flower --out benchmarks/results/overhead-64.json
	$(BIN)/python benchmarks/overhead.py --flower --width 16 --rounds 12 --out benchmarks/results/overhead-16.json
	$(BIN)/python benchmarks/scale.py --out benchmarks/results/scale.json
	$(BIN)/python benchmarks/profiled.py
	$(BIN)/python benchmarks/page.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

build: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q tests/server/engines/test_bundle.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metaward needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info *.fab .mypy_cache .ruff_cache .pytest_cache .hypothesis
