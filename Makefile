# What a developer runs. `make` alone lists it. Everything works a second time without setting up again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-full test-later test-containers containers clients matrix upgrade torture benchmark benchmark-full benchmark-compare release image sbom licences lock clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Python environment in .venv, from the lock

# The lock's hashes are checked by both installers. The project itself is built with the locked setuptools,
# not with one fetched for the occasion (--no-build-isolation).
$(READY): requirements-dev.txt requirements-build.txt pyproject.toml schemas/native/_native.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: install Python 3.11 or newer, or say make PYTHON=..."; exit 1; }
	@rm -f schemas/native/_native*.so  # where it cannot be compiled any more, an old one must not be left to decide
ifdef UV
	@test -x $(BIN)/python || uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV)
	uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-dev.txt -r requirements-build.txt
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt -r requirements-build.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endif
	@# Scripts that run in this environment import the sources by name, from any folder. A wheel brings no such names.
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/wallet-sources.pth"
	@touch $@

KEEP :=
demo: $(READY) ## The whole pipeline on mixed input, every balance checked; KEEP=1 leaves it running, with a console
	$(BIN)/wallet demo $(if $(KEEP),--keep)

check: $(READY) ## Lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Half of their time is waiting, hence six on two cores. Tests that share a set-up stay in one process (conftest.py).
# One that dies ends the run: xdist would put another in its place, and wait for ever for what the first had to do.
AT_ONCE := -n 6 --max-worker-restart 0

test: check ## Lint, types and tests against the real local stack
	$(BIN)/pytest $(AT_ONCE) -m "not full"

test-full: check ## The same with more examples of every property, and the tests that take long
	TEST_EFFORT=8 $(BIN)/pytest $(AT_ONCE)

# Needs a Docker engine and its compose; skipped, with a reason, where there is none.
containers: $(READY) ## The image built and docker-compose.yml played: kills, restarts, down and up, every record verified
	$(BIN)/pytest -n 0 tests/integration/test_in_containers.py

# Each of the two processes has a Kafka and a PostgreSQL of its own. TESTS="path ..." runs only these.
test-containers: $(READY) ## The integration tests with Kafka and PostgreSQL in containers; skipped where no engine is
	WALLET_TEST_WITH=testcontainers $(BIN)/pytest -n 2 --max-worker-restart 0 -m "not full" $(or $(TESTS),tests/integration)

# Each with its own tools: go; java and mvn; node and npm; cargo, cc and make. One that is lacking is named.
clients: $(READY) ## clients/ in Go, Java, JavaScript and Rust built and tested, and all on one pipeline, verified
	$(BIN)/pytest -n 0 --durations=0 --durations-min=1 tests/integration/test_languages.py

# One row a version, each with servers of its own; one that this machine cannot have is skipped, with the reason.
matrix: $(READY) ## The demo with Kafka 3.9 to 4.3, PostgreSQL 15 to 18, Python 3.11 to 3.14, as far as they are there
	$(BIN)/python -m tests.matrix

# The last release is the last commit before the day of the newest section of CHANGELOG.md.
FROM :=
upgrade: $(READY) ## The last release, or FROM=COMMIT, upgraded to this one under load, every record verified
	UPGRADE_FROM=$(FROM) $(BIN)/pytest -n 0 --durations=1 tests/integration/test_upgrade.py

# Of what depends on today's date nothing is left to find on the day. TESTS="path ..." runs only these.
MONTHS := 1
TESTS :=
test-later: $(READY) ## The tests under a clock that is MONTHS= months ahead (1 unless said), with Kafka and PostgreSQL
	$(BIN)/python -m tests.later $(MONTHS) $(AT_ONCE) -m "not full" $(TESTS)

# The same SEED plays the same schedule again. ONLY=kind,kind plays only these.
SEED :=
MINUTES := 2
BROKERS := 1
torture: $(READY) ## Faults by a random schedule under load, then an audit: SEED= MINUTES= BROKERS=1 or 3
	$(BIN)/python -m tests.faults --minutes $(MINUTES) --brokers $(BROKERS) \
		$(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

benchmark: $(READY) ## The worker beside Kafka Streams, Quix Streams and plain Faust, in five minutes
	$(BIN)/python -m benchmarks

benchmark-full: $(READY) ## The same, the sink beside Kafka Connect, end to end, latency, rebuild, a million wallets
	$(BIN)/python -m benchmarks --full

benchmark-compare: $(READY) ## The fold's cost against the recorded one, which a busy machine hardly moves
	$(BIN)/python -m benchmarks.guard compare

release: ## Wheels and sdist in dist/, tried in an empty environment; version from the tag
	PYTHON=$(PYTHON) .ci/release

image: $(READY) ## The image wallet-ledger, which docker-compose.yml runs, labelled with version and revision
	version=$$($(BIN)/python -m setuptools_scm) && docker build --build-arg VERSION=$$version \
		--build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%FT%TZ) \
		--tag wallet-ledger --tag wallet-ledger:$$(echo $$version | tr + -) .

sbom: $(READY) ## dist/sbom.cdx.json: what the lock installs; the image has its own, in /opt/wallet
	@mkdir -p dist
	$(BIN)/python -m operations.release.inventory sbom --lock requirements.txt > dist/sbom.cdx.json

licences: $(READY) ## docs/licences.md from what the lock installs
	$(BIN)/python -m operations.release.inventory licences --lock requirements.txt > docs/licences.md

# uv.lock is only a step on the way: it holds an index's addresses, the exported files hold none.
lock: ## Write requirements*.txt anew from pyproject.toml (needs uv)
	@test -n "$(UV)" || { echo "uv is needed to write the lock: see https://docs.astral.sh/uv"; exit 1; }
	uv lock --quiet --upgrade
	uv export --quiet --frozen $(EXPORT) --output-file requirements.txt >/dev/null
	uv export --quiet --frozen $(EXPORT) --extra dev --output-file requirements-dev.txt >/dev/null
	rm uv.lock
	printf 'setuptools>=80\nsetuptools-scm>=9\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --constraint requirements-dev.txt --output-file requirements-build.txt -
	@! grep -nE 'https?://|--(extra-)?index-url|--find-links' requirements*.txt

EXPORT := --no-emit-project --no-annotate --no-header --format requirements-txt

clean: ## Stop the local stacks and a demo that was kept, and remove what was made, data included
	@if [ -x $(BIN)/wallet ] && [ -e .local/demo/running.json ]; then $(BIN)/wallet demo --stop; fi
	@for folder in .local/stack .local/test-stack*/; do \
		if [ -x $(BIN)/wallet ] && [ -e $$folder/stack.json ]; then \
			$(BIN)/wallet local down --folder $$folder --delete || exit 1; fi; done
	rm -rf .local $(VENV) schemas/native/_native*.so build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf clients/*/target clients/go/build clients/node/node_modules clients/rust/Cargo.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
