# Everything a contributor, CI and a newcomer run. Needs Python 3.11 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIGHT := $(VENV)/.light
READY := $(VENV)/.ready
# Not compiled, which takes 140 MB and most of the time: Python compiles what is imported, a third of it.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
URL ?=
REAL_SITE ?= /usr/share/doc/postgresql-doc-15/html
# Three on two cores: many tests wait for servers, clocks and disks. A worker that dies ends the run: with another in its
# place, xdist waits for ever for the tests that it held.
PYTEST_ARGS ?= -n 3 --dist loadgroup --max-worker-restart 0
# What `make test-postgres` runs; by default everything.
ROOMS ?= kb_pipeline_tests

.PHONY: demo test test-postgres clients lint ui bench clean setup
.DEFAULT_GOAL := demo

setup: $(READY)

# What `kb` itself takes: no torch, nothing of a contributor's.
$(LIGHT): pyproject.toml constraints.txt
	@echo "installing kb_pipeline and what it needs into $(VENV) (1.3 GB; a minute or two)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# On top of it, everything. torch first and pinned: so pip takes the CPU build where one lies at hand, and nothing asks
# for another.
$(READY): $(LIGHT)
	$(PIP) "torch==2.13.0"
	$(PIP) -e ".[dev]"
	touch $@

demo: $(LIGHT)
	@echo "kb is $(CURDIR)/$(BIN)/kb"
	$(BIN)/kb demo $(if $(URL),--url "$(URL)")

test: setup clients
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The environments of other makers' clients, which some tests run: 400 MB, half a minute.
clients: setup
	$(BIN)/python -m kb_pipeline_tests.service.clients.environments

# Every home's control plane, and Dagster's storage, on a PostgreSQL server that the tests start.
test-postgres: setup clients
	KB_TEST_DATABASE=postgres $(BIN)/python -m pytest $(PYTEST_ARGS) $(ROOMS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(LIGHT)
	$(BIN)/kb ui

bench: setup
	$(BIN)/python -m benchmarks.embedding
	$(BIN)/python -m benchmarks.crawl
	$(BIN)/python -m benchmarks.politeness
	$(BIN)/python -m benchmarks.races
	$(BIN)/python -m benchmarks.fleet
	$(BIN)/python -m benchmarks.disk
	$(BIN)/python -m benchmarks.versions
	$(BIN)/python -m benchmarks.liveness --trials 2
	$(BIN)/python -m benchmarks.fairness --trials 2
	$(BIN)/python -m benchmarks.refresh --pages 2000
	test ! -d $(REAL_SITE) || $(BIN)/python -m benchmarks.refresh --site $(REAL_SITE)
	$(BIN)/python -m benchmarks.unchanged
	test ! -x /usr/bin/apt-get || $(BIN)/python -m benchmarks.completeness
	test ! -x /usr/bin/apt-get || $(BIN)/python -m benchmarks.reading --check
	KB_TEST_MODEL_SEEDS=100 KB_TEST_MODEL_REFRESHES=12 $(BIN)/python -m pytest kb_pipeline_tests/fetch/test_site_model.py
	KB_TEST_MODEL_BUILD_SEEDS=5 KB_TEST_MODEL_BUILDS=10 $(BIN)/python -m pytest kb_pipeline_tests/cli/test_site_model.py
	KB_TEST_RANDOM_KILLS=50 KB_TEST_EVERY_KILL=1 $(BIN)/python -m pytest --timeout=1800 kb_pipeline_tests/crash
	KB_TEST_EVERY_KILL=1 $(BIN)/python -m pytest --timeout=1800 kb_pipeline_tests/operations/test_erase_document.py -k any_step

clean:
	rm -rf $(VENV) .venv-clients build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
