# `make demo` and `make test` need Python 3.11 and nothing else; both make the environment first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

.PHONY: demo test check bench docs lock tools clean

demo: .venv/installed
	$(BIN)/ganzhi demo

test: .venv/installed tools
	$(BIN)/python -m pytest -n 2

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/installed tools
	$(BIN)/python -m tests.bench

# What the tests start beside Python packages: installed where apt may, said where not; tests skip visibly.
tools:
	@deploy/test-tools.sh

docs: .venv/installed
	$(BIN)/python -m tests.reference
	$(BIN)/python grafana/dashboards.py

# The lock files carry hashes and no addresses.
lock:
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header \
		--output-file requirements.lock pyproject.toml
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --extra demo --extra parquet --group dev \
		--output-file requirements-dev.lock pyproject.toml

.venv/installed: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
