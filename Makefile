# Requires make and python3 (3.11 or newer). Targets install everything else into .venv/, once, and
# the libraries of real trainings into .venv-train/.

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 4200
CONFIG ?= configs/training/mistral_finetune.yaml

.DEFAULT_GOAL := help
.PHONY: help run report train train-env up test docs e2e images e2e-cloud e2e-train packages torture bench check lock clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 11

run: .venv/ready ## Train, register and evaluate: make run [CONFIG=...yaml] [MODEL_VERSION=...]
	@$(BIN)/llm-train run "$(CONFIG)" $(if $(MODEL_VERSION),--model-version "$(MODEL_VERSION)")

report: .venv/report ## Write all models to one HTML file: make report [OUTPUT=report.html]
	@$(BIN)/llm-train report $(if $(OUTPUT),--output "$(OUTPUT)")

# A config of a demonstration has a base model that is created once.
train: CONFIG := $(if $(filter file,$(origin CONFIG)),configs/training/tiny_lora.yaml,$(CONFIG))
train: .venv/ready .venv-train/ready ## Train a language model for real: make train [CONFIG=configs/training/....yaml]
	@.venv-train/bin/python -m ops.base_models "$(CONFIG)"
	@$(BIN)/llm-train run "$(CONFIG)"

train-env: .venv-train/ready ## Install the libraries of real trainings into .venv-train/: 1.2 GB, 3 minutes

up: .venv/ready ## Start a server with UI and a worker, and deploy the flows; Ctrl-C stops both: make up [PORT=4200]
	@exec $(BIN)/python -m ops.up --port $(PORT)

# A server starts slowly, so all tests of a file share one (loadfile). Tests often wait for other
# processes, so there are more workers than cores.
test: .venv/ready ## Run all tests except those of make e2e, make e2e-cloud and make e2e-train
	$(BIN)/pytest --numprocesses 3 --dist loadfile \
		--ignore=tests/e2e --ignore=tests/e2e_cloud --ignore=tests/e2e_train \
		--cov=src --cov-branch --cov-fail-under=95

e2e: .venv/e2e .venv/report ## Run the tests that need a real server, worker, browser and PostgreSQL
	@command -v chromium && ls /usr/lib/postgresql/*/bin/initdb || $(MAKE) packages
	$(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder tests/e2e

images: .venv/e2e .venv/report ## Update docs/images/, the screenshots of the documentation
	IMAGES=1 $(BIN)/pytest tests/e2e/test_browser.py tests/e2e/test_report.py

e2e-cloud: .venv/report .venv/cloud-servers/ready .venv/node-servers/ready ## Run the tests on other object stores, and on two hosts
	@command -v ip && ls /usr/lib/postgresql/*/bin/initdb || $(MAKE) packages
	$(BIN)/pytest tests/e2e_cloud

e2e-train: .venv/ready .venv-train/examples ## Run the tests that train language models for real
	$(BIN)/pytest tests/e2e_train

# Node.js of another origin includes npm, and conflicts with Debian's.
packages: ## Install the Debian packages that make e2e, make e2e-cloud and make torture need (as root)
	apt-get update
	apt-get install --yes --no-install-recommends chromium iproute2 postgresql strace \
		$(if $(shell command -v npm),,nodejs npm)

torture: .venv/torture ## Run the long kill, race, resource and fuzz tests, and a soak of make up
	TORTURE=long $(BIN)/pytest -rP tests/torture tests/transfer tests/storage/test_bucket_*.py
	TORTURE=long $(BIN)/pytest tests/e2e/test_operations.py tests/e2e/test_recovery.py tests/e2e/test_up.py
	$(BIN)/python -m tests.torture.fuzz --seconds 300
	$(BIN)/python -m tests.torture.tamper --rounds 20000
	$(BIN)/python -m tests.torture.soak

# Systems for comparison, each in a separate environment.
PEERS := kedro mlflow
bench: .venv/ready $(PEERS:%=.venv/peers/%/ready) ## Run all benchmarks: 17 minutes, 2.5 GB in $TMPDIR
	@for topic in $(TOPICS); do $(BIN)/python -m benchmarks.$$topic || exit; done
TOPICS := data_pass datasets core engine sweep distributed registry bucket many cli_start training lora

check: .venv/ready ## Check formatting, lint rules, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs/ready ## Build the documentation into site/; open site/index.html
	@$(MKDOCS) build --strict --quiet
	@echo "site/index.html; with search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

# Material announces the end of its support at every start; docs/decisions/0019 is about it.
MKDOCS := NO_MKDOCS_2_WARNING=1 .venv/docs/bin/python -m mkdocs

lock: .venv/ready ## Resolve all dependencies into requirements/
	$(BIN)/uv pip compile pyproject.toml --group dev $(LOCK) --output-file requirements/main.lock
	$(BIN)/uv pip compile --group cloud-servers $(LOCK) --output-file requirements/cloud-servers.lock
	cd requirements/node-servers && npm update --package-lock-only --omit-lockfile-registry-resolved
	$(BIN)/uv pip compile --group torture $(LOCK) --output-file requirements/torture.lock
	for peer in $(PEERS); do \
		$(BIN)/uv pip compile --group bench-$$peer $(LOCK) --output-file requirements/$$peer.lock || exit; \
	done
	$(BIN)/uv pip compile --group e2e $(LOCK) --constraint requirements/main.lock --output-file requirements/e2e.lock
	$(BIN)/uv pip compile --group docs $(LOCK) --constraint requirements/main.lock --output-file requirements/docs.lock
	for extra in cloud report; do \
		$(PYTHON) -c "$$RANGES" project optional-dependencies $$extra | \
			$(BIN)/uv pip compile - $(LOCK) --constraint requirements/main.lock --output-file requirements/$$extra.lock || exit; \
	done
	echo uv | $(BIN)/uv pip compile - $(LOCK) --output-file requirements/uv.lock
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --quiet \
	--no-annotate --custom-compile-command "make lock"

clean: ## Remove .venv/, .venv-train/, base_models/, site/, caches, all models and evaluations, Prefect's database and password
	rm -rf .venv .venv-train base_models site .prefect .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	rm -rf artifacts/models artifacts/evaluations artifacts/sweeps artifacts/reports artifacts/.cache artifacts/.work
	find . -name __pycache__ -prune -exec rm -rf {} +

# The scripts of an environment contain its path: make it again after the project was moved or copied.
ifneq ($(shell cd .venv 2>/dev/null && pwd -P),$(shell cat .venv/ready 2>/dev/null))
.PHONY: .venv/ready
CLEAR := --clear
endif
ifneq ($(shell cd .venv-train 2>/dev/null && pwd -P),$(shell cat .venv-train/ready 2>/dev/null))
.PHONY: .venv-train/ready
CLEAR_TRAIN := --clear
endif

.venv/ready: requirements/main.lock requirements/uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON): found " + sys.version + ". Expected 3.11 or newer. Set PYTHON=...")'
	@echo "Installing the dependencies into .venv/ (about a minute) ..." >&2
	@$(PYTHON) -m venv $(CLEAR) .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements/main.lock requirements/uv.lock
	@$(BIN)/uv pip install --quiet --offline --no-deps --python $(BIN)/python --editable .
	@cd .venv && pwd -P > ready

# Which build of torch fits depends on the machine: pip chooses, from the ranges of the extra `train`.
.venv-train/ready: pyproject.toml | .venv/ready
	@echo "Installing torch, transformers and peft into .venv-train/: 1.2 GB, about 3 minutes; 5.5 GB" \
		"if pip finds a build of torch with CUDA ..." >&2
	@$(PYTHON) -m venv $(CLEAR_TRAIN) .venv-train
	@$(PYTHON) -c "$$RANGES" project optional-dependencies train | $(PIP_TRAIN)
	@$(BIN)/uv pip install --quiet --offline --no-deps --python .venv-train/bin/python --editable .
	@cd .venv-train && pwd -P > ready
PIP_TRAIN := .venv-train/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
define RANGES
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    value = tomllib.load(file)
for key in sys.argv[1:]:
    value = value[key]
print(*value, sep="\n")
endef
export RANGES

.venv-train/examples: .venv-train/ready
	@$(PYTHON) -c "$$RANGES" dependency-groups examples | $(PIP_TRAIN)
	@touch $@

.venv/%: requirements/%.lock .venv/ready
	$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r $<
	@touch $@

.venv/cloud-servers/ready: requirements/cloud-servers.lock .venv/ready
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --require-hashes --python $(@D)/bin/python -r $<
	@touch $@

.venv/node-servers/ready: requirements/node-servers/package-lock.json .venv/ready
	@command -v npm || $(MAKE) packages
	@mkdir -p $(@D)
	cp requirements/node-servers/package.json $< $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

# In a separate environment: the libraries of a site restrict those of the pipeline.
.venv/docs/ready: requirements/docs.lock .venv/ready
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --require-hashes --python $(@D)/bin/python -r $<
	@touch $@

.venv/peers/%/ready: requirements/%.lock .venv/ready
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --require-hashes --python $(@D)/bin/python -r $<
	@touch $@
