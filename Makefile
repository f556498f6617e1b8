# All commands of this project; `make` lists them. Nothing needs sudo, Docker or a compiler.

# The Python for the environment: 3.11 or newer. After changing it, run `make clean`.
PYTHON ?= python3
# Further arguments of a target's command: make test ARGS='-k pause'
ARGS ?=

VENV := .venv
# Programs in Python are started with python -m: the first line of their scripts cannot name a Python in every folder.
BIN := $(VENV)/bin
SAM_BIN := .venv-sam/bin
CODE := functions layers/shared migrations local deployment bench testbed tests

UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate

# Two for each core, because the tests spend half of their time waiting for servers and timeouts.
TEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')
PYTEST = $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS)

# The Python that Lambda runs, where this machine has it: from the PATH, else from pyenv.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)
LAMBDA_PYTHON = $(firstword $(shell for python in python3.13 $(wildcard $(PYENV)/versions/3.13.*/bin/python3.13); \
	do $$python -c '' 2>/dev/null && command -v $$python; done))
# By then all tests have run on another Python. In CI the second run skips those that do not depend on the version.
LAMBDA_PYTHON_TESTS := tests $(if $(CI),$(foreach folder,acceptance faults functions local,--ignore=tests/$(folder)))

# A person may lack a tool, and is told what was not checked. In CI that is an error.
FAILS_IN_CI := $(if $(CI), >&2; exit 1)

export SAM_CLI_TELEMETRY := 0
# The SAM CLI's own files. They are here because a home folder may be read-only.
export __SAM_CLI_APP_DIR := $(CURDIR)/.aws-sam/cli

.DEFAULT_GOAL := help
.PHONY: help run test check check-code check-template check-openapi lint-openapi check-lambda-python migrate \
	migrate-existing-campaigns api-key pictures bench soak build deploy deploy-check rds-certificates openapi client lock clean

# An environment works in the folder that it was made in, with the Python that it was made with. Elsewhere it is made anew.
# A new version of the system's Python, under the name of the one before, looks for the packages in another folder.
$(foreach marker,$(wildcard .venv*/installed*),$(shell folder=$(dir $(marker)); \
	$${folder}bin/python -Ic 'import os, site; os.chdir(site.getsitepackages()[0])' 2>/dev/null && \
	{ test ! -s $(marker) || test "$$(cat $(marker))" -ef $$folder; } || \
	rm -f $(marker)))

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | awk -F '\t' '{ printf "make %-28s%s\n", $$1, $$2 }'

# Running needs fewer packages than development. If those of development are installed, they are used.
TO_RUN := $(or $(wildcard $(VENV)/installed),$(VENV)/installed-to-run)

run: $(TO_RUN) ## Start the local stack with its demo: http://localhost:8000
	@exec $(BIN)/python -m local $(ARGS)

test: $(VENV)/installed .venv-sam/installed client ## Run the tests
	$(PYTEST) $(ARGS)$(if $(CI), || { [ $$? -eq 1 ] && $(BIN)/python -m testbed.run_failed_again; })

check: check-code check-template check-openapi test check-lambda-python ## Run every check that CI runs, tests included

check-code: $(VENV)/installed client
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy $(CODE)
	MYPYPATH=client/src $(BIN)/python -m mypy client/src

# checkov cannot read SAM's short form, so it reads the template that SAM expands it to.
EXPANDED := .aws-sam/expanded.json
check-template: .venv-sam/installed .venv-checkov/installed
	AWS_DEFAULT_REGION=us-east-1 $(SAM_BIN)/sam validate --lint # needs a region, but calls none
	@mkdir -p $(dir $(EXPANDED))
	AWS_DEFAULT_REGION=us-east-1 $(SAM_BIN)/python testbed/expand_template.py template.yaml >$(EXPANDED)
	.venv-checkov/bin/python .venv-checkov/bin/checkov --file $(EXPANDED) --config-file .checkov.yaml

# Spectral and Redocly need Node 20 or newer.
LINTERS := requirements/openapi
HAS_NODE = $(shell node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm)
check-openapi: $(VENV)/installed $(if $(HAS_NODE),lint-openapi)
	PYTHONPATH=functions/campaign_api $(BIN)/python -m local.openapi --check
	@$(if $(HAS_NODE),,echo "Node 20 or newer was not found: Spectral and Redocly did not check docs/openapi.json."$(FAILS_IN_CI))

lint-openapi: $(LINTERS)/node_modules/.package-lock.json
	$(LINTERS)/node_modules/.bin/spectral lint --fail-severity=hint --ruleset $(LINTERS)/.spectral.yaml docs/openapi.json
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true $(LINTERS)/node_modules/.bin/redocly lint \
		--max-problems=1000 --config $(LINTERS)/redocly.yaml docs/openapi.json

check-lambda-python:
	@python="$(LAMBDA_PYTHON)"; \
	if [ -z "$$python" ]; then \
		echo "Python 3.13, which Lambda runs, was not found: the tests ran on $(PYTHON) only."$(FAILS_IN_CI); \
	elif $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))'; then :; \
	else $(MAKE) --no-print-directory VENV=.venv-3.13 PYTHON="$$python" ARGS="$(LAMBDA_PYTHON_TESTS)" test; fi

migrate: $(TO_RUN) ## Upgrade the database at DATABASE_URL
	$(BIN)/python -m alembic --config migrations/alembic.ini $(patsubst --%,-x %,$(ARGS)) upgrade head

migrate-existing-campaigns: $(TO_RUN) ## Adopt the campaigns of an existing installation; ARGS='--dry-run'
	@$(BIN)/python -m local.migrate_existing_campaigns $(ARGS)

api-key: $(TO_RUN) ## Create an API key in the database at DATABASE_URL
	@$(BIN)/python -m local.api_key $(ARGS)

pictures: $(VENV)/installed ## Take the pictures of the console in docs/pictures anew (needs a Chromium)
	PYTHONPATH=migrations $(BIN)/python -m testbed.pictures

bench: $(VENV)/installed ## Run the benchmarks
	$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/installed ## Kill senders at random for minutes and report duplicates and losses
	$(BIN)/python -m bench.soak $(ARGS)

build: .venv-sam/installed ## Build what sam deploy uploads (needs Python 3.13)
	@test -n "$(LAMBDA_PYTHON)" || { echo "Python 3.13, which Lambda runs, was not found on the PATH or in pyenv." >&2; exit 1; }
	PATH="$(dir $(LAMBDA_PYTHON)):$$PATH" $(SAM_BIN)/sam build $(ARGS)

deploy: $(VENV)/installed .venv-sam/installed ## Deploy to AWS: asks, checks, deploys, makes the first key; ARGS='--stage dev'
	@$(BIN)/python -m deployment $(ARGS)

deploy-check: $(VENV)/installed ## Check all that a deployment needs, and change nothing; ARGS=network for one check
	@$(BIN)/python -m deployment check $(ARGS)

rds-certificates: $(VENV)/installed ## Fetch Amazon's certificate authorities for RDS anew; ARGS=--check only compares
	@$(BIN)/python -m local.rds_certificates $(ARGS)

openapi: $(VENV)/installed ## Rewrite docs/openapi.json and the client after a change of the API
	PYTHONPATH=functions/campaign_api $(BIN)/python -m local.openapi
	$(BIN)/python client/generate.py

# Does nothing if neither the document nor the templates have changed.
client: $(VENV)/installed
	$(BIN)/python client/generate.py

lock: $(VENV)/installed ## Rewrite the lock files after a change of dependencies; ARGS=--upgrade for newer versions
	$(UV_COMPILE) $(ARGS) pyproject.toml --output-file layers/dependencies/requirements.txt
	$(UV_COMPILE) $(ARGS) pyproject.toml --extra run --extra dev --constraint layers/dependencies/requirements.txt \
		--output-file requirements/dev.txt
	$(UV_COMPILE) $(ARGS) pyproject.toml --extra run --constraint requirements/dev.txt --output-file requirements/run.txt
	$(UV_COMPILE) $(ARGS) requirements/sam.in --output-file requirements/sam.txt
	$(UV_COMPILE) $(ARGS) requirements/checkov.in --output-file requirements/checkov.txt

clean: ## Remove environments, builds and caches (the local stack's data stays)
	rm -rf .venv .venv-3.13 .venv-sam .venv-checkov .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		$(LINTERS)/node_modules client/src/sendledger_client/generated client/build \
		client/src/*.egg-info layers/shared/*.egg-info
	find $(CODE) client -name __pycache__ -prune -exec rm -rf {} +

INSTALL = @$(PYTHON) requirements/install.py $@

$(VENV)/installed: requirements/dev.txt
	$(INSTALL) $< "the development environment" . ./client

$(VENV)/installed-to-run: requirements/run.txt
	$(INSTALL) $< "what running needs" .

$(LINTERS)/node_modules/.package-lock.json: $(LINTERS)/package-lock.json
	npm ci --prefix $(LINTERS) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.venv-sam/installed: requirements/sam.txt
	$(INSTALL) $< "the SAM CLI"

.venv-checkov/installed: requirements/checkov.txt
	$(INSTALL) $< checkov
