# Everything runs from the lock files, in an environment of its own: requirements.lock is what serves,
# requirements-dev.lock that and what it is tested with, build.lock what makes the wheel. Needs Python
# 3.11 or newer.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test quick coverage check wheel bench profile instructions fuzz soak nothing-lost docs fixtures audit sbom clean
.DEFAULT_GOAL := run

run: .venv/ready
	@$(BIN)/cds-service demo --port $(PORT)

test: .venv/ready
	@$(BIN)/python -m pytest

# The inner loop: without what is slow, on all cores. CI runs all of them. The compiled tests are kept
# for the next run, whatever the environment says: to compile them takes each core seconds.
quick: .venv/ready
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n auto -m "not slow"

# What of the engine no test runs: a table, and a failure if it is a line. Without what is slow.
coverage: .venv/ready
	@$(BIN)/python -m pytest -q -n auto -m "not slow" $(OF_THE_ENGINE) --cov=cds_service.engine \
	  --cov-branch --cov-report=term-missing:skip-covered --cov-report=json:.coverage.json
	@$(BIN)/python -m tests.project.covered .coverage.json
OF_THE_ENGINE := tests/engine tests/fhir tests/content tests/authoring/test_vignettes.py tests/hooks/test_orders.py \
  tests/hooks/test_records.py tests/hooks/test_wire.py

check: .venv/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/cds-service content check > /dev/null
	@$(MAKE) --no-print-directory audit

# The source distribution, and the wheel that is made from it, in dist.
wheel: .venv/ready
	@$(BIN)/python -m build --no-isolation

# Known vulnerabilities of what is locked. Without a database to ask, it says so and goes on.
UNREACHABLE := could not be audited|ConnectionError|Max retries|timed out|ServiceError|HTTPError
audit: .venv-tools/ready
	@if timeout 120 .venv-tools/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes \
	   -r requirements-dev.lock > .venv-tools/audit.log 2>&1; then echo "No known vulnerabilities."; \
	elif grep -qE "$(UNREACHABLE)" .venv-tools/audit.log; then \
	   echo "NOT AUDITED: no database of vulnerabilities that knows these packages can be reached."; \
	else cat .venv-tools/audit.log >&2; exit 1; fi

# What is in it, as CycloneDX, for those who run it.
sbom: .venv-tools/ready
	@.venv-tools/bin/python -W ignore -m cyclonedx_py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json
	@echo "sbom.json: $$(.venv-tools/bin/python -c 'import json; print(len(json.load(open("sbom.json"))["components"]))') components"

# All goals, beside what was measured and the run that was kept; KEEP=1 keeps this one. Figures and
# plot are in benchmarks/last.
bench: .venv/ready .venv-peer/ready
	@$(BIN)/python -m benchmarks $(if $(KEEP),--keep)

# Where the time of one request goes, with a picture in benchmarks/last; KEEP=1 keeps it.
profile: .venv/ready
	@$(BIN)/python -m benchmarks.profile $(if $(KEEP),--keep)

# How many instructions a request takes; KEEP=1 keeps the count that CI compares with.
instructions: .venv/ready
	@$(BIN)/python -m benchmarks.instructions $(if $(KEEP),--keep)

# Ten minutes of too many callers, good, bad and slow, then five of a few; then each attack on
# availability, beside normal calls.
soak: .venv/ready
	@$(BIN)/python -m benchmarks.soak

# Ten thousand items of feedback while workers and a PostgreSQL die.
nothing-lost: .venv/ready
	@$(BIN)/python -m tests.storage.nothing_lost

# Broken requests by the ten thousand; SEED=... sends the same again.
fuzz: .venv/ready
	@$(BIN)/python -m tests.hooks.fuzz $(if $(SEED),--seed $(SEED))

# Bundle and request of every mother in fhir_bundles, which is not kept; those of the samples beside them.
fixtures: .venv/ready
	@$(BIN)/python -m cds_service.demo.ehr

# The table of CDS Hooks' rules is made from the tests that carry their names.
docs: .venv/ready
	@$(BIN)/python -m tests.project.conformance
	@$(BIN)/python -m tests.project.code_table

.venv/ready: requirements-dev.lock pyproject.toml
	@echo "Preparing .venv from requirements-dev.lock (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1)
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv-tools/ready: tools.lock
	@$(PYTHON) -m venv .venv-tools
	@.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools.lock
	@touch $@

# Another CDS Hooks service to be compared with; without it, its rows are not measured.
.venv-peer/ready: benchmarks/peer.lock
	@$(PYTHON) -m venv .venv-peer
	@.venv-peer/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/peer.lock \
	  || (rm -rf .venv-peer; mkdir .venv-peer; echo "The peer cannot be installed here: it is left out." >&2)
	@touch $@

clean:
	rm -rf .venv .venv-tools .venv-peer dist fhir_bundles benchmarks/last
