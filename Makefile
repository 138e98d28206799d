# Everything a developer needs, with python3 (3.11 or newer) and make alone. `make` lists the commands.

PYTHON ?= python3
VENV ?= .venv
# More arguments for pytest or the benchmarks, such as ARGS="-k split -x" or ARGS="--runs 1"
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.headstart-installed
# What headstart is compared with, apart from it: they ask for other versions of the same libraries.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.peers-installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check format bench bench-peers clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)  ## make the virtual environment (VENV=.venv) and install everything into it

# The stamp is written last, so that an interrupted installation is taken up again; a second run finds it and starts at
# once. torch comes first and alone: it is by far the largest, and a failure to get it should show at the beginning.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit(f"{sys.executable} is Python {v[0]}.{v[1]}: headstart needs 3.11 or newer. Name one: make PYTHON=python3.12 …")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); on a fresh machine this takes some minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,backbones,serve]'
	@touch $@

demo: $(STAMP)  ## handwritten digits -> class folders -> classifier -> three predictions, in under a minute
	$(BIN)/headstart demo

test: $(STAMP)  ## all tests but the slow ones; those that need ../shared/data are skipped without it
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(STAMP)  ## the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(STAMP)  ## format, lint, types, layers
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

format: $(STAMP)  ## put the code into the form that `make check` wants
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

bench: $(STAMP)  ## the benchmarks: prints a table, writes benchmarks/results.json
	$(BIN)/python benchmarks/run.py $(ARGS)

# What cannot be installed becomes rows that say "not measured"; the rest is measured.
bench-peers: $(STAMP)  ## the benchmarks against Keras, the PyTorch tutorial and fastai (over an hour), installing them
	-@$(MAKE) --no-print-directory $(PEERS_STAMP)
	$(BIN)/python benchmarks/run.py --peers $(ARGS)

$(PEERS_STAMP): constraints-peers.txt
	@$(PEERS)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(PEERS)
	@echo "Installing Keras and fastai into $(PEERS); this takes some minutes."
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-peers.txt tensorflow-cpu keras scipy
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-peers.txt fastai torch torchvision timm safetensors
	@touch $@

clean:  ## remove what the other commands made, but not the virtual environment
	rm -rf demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
