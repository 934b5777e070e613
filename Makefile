# make setup | demo | test | check | bench | lock
PYTHON ?= python3
BIN := .venv/bin

setup: .venv/.ready

.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(f"Releve needs Python 3.11 or newer, found {sys.version.split()[0]}; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

demo: setup
	$(BIN)/releve demo --out demo --overwrite

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy

bench: setup
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

lock:
	$(BIN)/uv pip compile --quiet --universal --all-extras --no-header --python-version 3.11 pyproject.toml -o requirements.txt

.PHONY: setup demo test check bench lock
