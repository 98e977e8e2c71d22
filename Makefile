# `make demo` and `make test` need Python 3.11 and nothing else; both make the environment first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

.PHONY: demo test check audit sbom bench bench-report faults docs lock tools clean

demo: .venv/installed
	$(BIN)/ganzhi demo

test: .venv/installed tools
	$(BIN)/python -m pytest -n 2

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python -m tests.audit

# Known vulnerabilities in what is locked; says so where the advisories are out of reach.
audit: .venv/installed
	$(BIN)/python -m tests.audit

# What ships, with hashes, as CycloneDX; validated before it is written.
sbom: .venv/installed
	@mkdir -p build
	$(BIN)/python -W ignore -m cyclonedx_py requirements requirements.lock --pyproject pyproject.toml \
		--sv 1.6 --output-reproducible --of JSON --validate --output-file build/sbom.json

# The rates, and whether a step of the hot path costs a tenth more than when it was last recorded.
bench: .venv/installed tools
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.guard

# Curves as things grow into docs/benchmarks.md and docs/growth.svg; half an hour, 10 GB of disk, 4 GB of memory.
bench-report: .venv/installed tools
	$(BIN)/python -m tests.bench.growth --report

# Goes on where it was stopped; CASE="name name" runs these, FRESH=1 all anew, LIST=1 names them.
faults: .venv/installed tools
	$(BIN)/python -m tests.faults $(if $(FRESH),--fresh) $(if $(LIST),--list) $(CASE)

# What the tests start beside Python packages: installed where apt may, said where not; tests skip visibly.
tools:
	@deploy/test-tools.sh

docs: .venv/installed
	$(BIN)/python -m tests.reference
	$(BIN)/python -m tests.licences
	$(BIN)/python -m grafana.render

# The lock files carry hashes and no addresses.
lock:
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header \
		--output-file requirements.lock pyproject.toml
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --extra demo --extra parquet --group dev \
		--output-file requirements-dev.lock pyproject.toml

.venv/installed: requirements-dev.lock pyproject.toml
	@echo "making .venv: pip installs what is locked, which takes half a minute to a few, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
