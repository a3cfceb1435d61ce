# Everything runs from the lock file, in an environment of its own. Needs Python 3.11 or newer.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test check bench fixtures clean
.DEFAULT_GOAL := run

run: .venv/ready
	@$(BIN)/cds-service demo --port $(PORT)

test: .venv/ready
	@$(BIN)/python -m pytest

check: .venv/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/cds-service content check > /dev/null

bench: .venv/ready
	@$(BIN)/python -m benchmarks

# The requests beside the Bundles are made from them and from the content.
fixtures: .venv/ready
	@$(BIN)/python -m cds_service.demo.ehr

.venv/ready: requirements.lock pyproject.toml
	@echo "Preparing .venv from requirements.lock (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1)
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv build *.egg-info
