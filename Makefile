PYTHON ?= python3.11
BIN = .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check bench tools clean

demo: .venv/installed
	$(BIN)/ganzhi demo

test: .venv/installed tools
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/installed
	$(BIN)/python -m tests.bench
