# make study   set everything up and run the embedded study
# make test    set everything up and run the tests, but for those that take long
# make test-long  set everything up and run the rest: whole studies on clusters, full disks, at the paper's scale
# make lint    set everything up and check format, style, types and the direction of imports
# make crashtest  kill tiny studies for real, KILLS times at random moments, and check that nothing is lost
# make venv    set everything up
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
KILLS ?= 50
SEED ?= 0

.PHONY: study test test-long lint crashtest venv clean

study: venv
	$(BIN)/python -m study.run

test: venv
	$(PYTEST) -m 'not long'

test-long: venv
	$(PYTEST) -m long -vv

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

crashtest: venv
	$(BIN)/python -m tests.crash.crashtest --kills $(KILLS) --seed $(SEED)

venv: $(STAMP)

# Made anew only when what it installs has changed.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "polydistill needs Python 3.11 or newer; name one with PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
