# Everything that is run on this project; `make` lists it. Nothing needs sudo, Docker or a compiler.

# The Python that the environment is made with: 3.11 or newer. After changing it, `make clean`.
PYTHON ?= python3
# More arguments for the command behind a target: make test ARGS='-k pause'
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
SAM_BIN := .venv-sam/bin
CODE := functions layers/shared migrations local bench testbed tests

# The lock files are complete, so nothing is resolved; every package is a wheel, checked against its hash. They are
# compiled at once, by all cores: where PYTHONDONTWRITEBYTECODE is set, each process would do so anew. A file for
# another Python that a package brings does not compile, which does no harm.
PIP := -m pip --quiet --disable-pip-version-check
PIP_SYNC := $(PIP) install --no-deps --no-compile --require-hashes --only-binary=:all:
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate

# Two for each core: the tests wait for servers, timeouts and killed processes about half of their time.
TEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')
PYTEST = $(BIN)/pytest --numprocesses $(TEST_WORKERS)

# The Python that Lambda runs, where this machine has it: from the PATH, else from pyenv.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)
LAMBDA_PYTHON = $(firstword $(shell for python in python3.13 $(wildcard $(PYENV)/versions/3.13.*/bin/python3.13); \
	do $$python -c '' 2>/dev/null && command -v $$python; done))
# The tests were run on another Python by then; in CI this second run is for what depends on the language alone.
LAMBDA_PYTHON_TESTS := tests $(if $(CI),$(foreach folder,acceptance faults functions local,--ignore=tests/$(folder)))

export SAM_CLI_TELEMETRY := 0
# Where the SAM CLI remembers things; a home folder may be read-only.
export __SAM_CLI_APP_DIR := $(CURDIR)/.aws-sam/cli
# sam validate wants to be told a region. It calls none.
export AWS_DEFAULT_REGION ?= us-east-1

.DEFAULT_GOAL := help
.PHONY: help run test check check-code check-template check-openapi check-lambda-python migrate \
	migrate-existing-campaigns api-key bench soak build rds-certificates openapi lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | awk -F '\t' '{ printf "make %-28s%s\n", $$1, $$2 }'

run: $(VENV)/installed ## Start the local stack with its demo: http://localhost:8000
	@exec $(BIN)/python -m local $(ARGS)

test: $(VENV)/installed .venv-sam/installed ## Run the tests
	$(PYTEST) $(ARGS)

check: check-code check-template check-openapi test check-lambda-python ## Run every check that CI runs, tests included

check-code: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(CODE)

# checkov cannot read the short template, so it gets what a deployment makes of it.
EXPANDED := .aws-sam/expanded.json
check-template: .venv-sam/installed .venv-checkov/installed
	$(SAM_BIN)/sam validate --lint
	@mkdir -p $(dir $(EXPANDED))
	$(SAM_BIN)/python testbed/expand_template.py template.yaml >$(EXPANDED)
	.venv-checkov/bin/checkov --file $(EXPANDED) --config-file .checkov.yaml

check-openapi: $(VENV)/installed
	$(BIN)/python -m local.openapi --check

check-lambda-python:
	@python="$(LAMBDA_PYTHON)"; \
	if [ -z "$$python" ]; then echo "Python 3.13, which Lambda runs, was not found: the tests ran on $(PYTHON) only."; \
	elif $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))'; then :; \
	else $(MAKE) --no-print-directory VENV=.venv-3.13 PYTHON="$$python" ARGS="$(LAMBDA_PYTHON_TESTS)" test; fi

migrate: $(VENV)/installed ## Upgrade the database at DATABASE_URL
	$(BIN)/alembic --config migrations/alembic.ini upgrade head

migrate-existing-campaigns: $(VENV)/installed ## Adopt the campaigns of an existing installation; ARGS='--dry-run'
	@$(BIN)/python -m local.migrate_existing_campaigns $(ARGS)

api-key: $(VENV)/installed ## Create an API key in the database at DATABASE_URL
	@$(BIN)/python -m local.api_key $(ARGS)

bench: $(VENV)/installed ## Run the benchmarks
	$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/installed ## Kill senders at random for minutes and report duplicates and losses
	$(BIN)/python -m bench.soak $(ARGS)

build: .venv-sam/installed ## Build what sam deploy uploads (needs Python 3.13)
	@test -n "$(LAMBDA_PYTHON)" || { echo "Python 3.13, which Lambda runs, was not found on the PATH or in pyenv." >&2; exit 1; }
	PATH="$(dir $(LAMBDA_PYTHON)):$$PATH" $(SAM_BIN)/sam build $(ARGS)

rds-certificates: $(VENV)/installed ## Fetch Amazon's certificate authorities for RDS anew; ARGS=--check only compares
	@$(BIN)/python -m local.rds_certificates $(ARGS)

openapi: $(VENV)/installed ## Rewrite docs/openapi.json after a change of the API
	$(BIN)/python -m local.openapi

lock: $(VENV)/installed ## Rewrite the lock files after a change of dependencies; ARGS=--upgrade for newer versions
	$(UV_COMPILE) $(ARGS) pyproject.toml --output-file layers/dependencies/requirements.txt
	$(UV_COMPILE) $(ARGS) pyproject.toml --extra dev --constraint layers/dependencies/requirements.txt \
		--output-file requirements/dev.txt
	$(UV_COMPILE) $(ARGS) requirements/sam.in --output-file requirements/sam.txt
	$(UV_COMPILE) $(ARGS) requirements/checkov.in --output-file requirements/checkov.txt

clean: ## Remove environments, builds and caches (the local stack's data stays)
	rm -rf .venv .venv-3.13 .venv-sam .venv-checkov .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

define make_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)" >&2; \
		echo "If this machine has one under another name: make PYTHON=python3.13 …" >&2; exit 1; }
	@echo "Installing $(1) into $(@D) (about a minute, once)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python $(PIP_SYNC) --requirement $<
	@$(@D)/bin/python -m compileall -q -j 0 $(@D)/lib || true
endef

$(VENV)/installed: requirements/dev.txt
	$(call make_environment,the development environment)
	@$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv-sam/installed: requirements/sam.txt
	$(call make_environment,the SAM CLI)
	@touch $@

.venv-checkov/installed: requirements/checkov.txt
	$(call make_environment,checkov)
	@touch $@
