# What a person types, and CI too. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Servers for `make test-servers`. Each of its processes makes a database of its own on the first, drops it afterwards,
# and takes a numbered one of Redis, four a pass: those from the numbers given on are emptied.
TEST_DATABASE_URL ?= postgresql://postgres@127.0.0.1:5432/postgres
TEST_REDIS ?= redis://127.0.0.1:6379
TEST_RABBITMQ_URL ?= amqp://guest:guest@127.0.0.1:5672//

# What runs the tests. CI's is tests/again.py, which tries what failed once more.
PYTEST ?= $(BIN)/pytest
INTO_FOUR := --numprocesses=4 --dist=loadscope --no-loadscope-reorder

# `make chaos`: random histories tried first; then how long the real stack is besieged, by which dice, on which broker.
CHAOS_EXAMPLES ?= 1000
CHAOS_SECONDS ?= 600
CHAOS_SEED ?=
CHAOS_BROKER ?=

# Set, it has each of the hundreds of processes that the tests start compile all of this again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo up browser promtool test screenshots reference docs test-servers mutants chaos bench check audit format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(VENV)/installed ## Make .venv with the package and its development extras

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'sagajobs needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 install'; exit 1; }
	@echo 'Installing into $(VENV), once; it takes a minute or two and says nothing meanwhile.'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install ## Book 40 appointments through the real stack while things fail and workers are killed
	$(BIN)/sagajobs demo

up: install ## Run the whole stack until Ctrl-C
	$(BIN)/sagajobs up

browser: install ## Install the Chromium that the tests of pages use, if this machine has none
	-@$(BIN)/python -m tests.support.chromium

promtool: install ## Fetch the program that the tests of alert rules use, if this machine has none
	-@$(BIN)/python -m tests.support.promtool

test: browser promtool ## Run all tests, on servers of their own
	$(PYTEST) -q $(INTO_FOUR)

SERVERS = TEST_DATABASE_URL='$(TEST_DATABASE_URL)' $(PYTEST) -q $(INTO_FOUR) \
	tests/saga tests/acceptance tests/kit/test_creation.py

test-servers: install ## Run the tests of engine and sagas against servers by URL, for both brokers at the same time
	@other=$$(mktemp); failed=; \
	TEST_REDIS_URL='$(TEST_REDIS)/12' TEST_BROKER_URL='$(TEST_RABBITMQ_URL)' $(SERVERS) \
		-o cache_dir=.pytest_cache/rabbitmq > $$other 2>&1 & pass=$$!; \
	echo '== broker: Redis'; \
	TEST_REDIS_URL='$(TEST_REDIS)/4' TEST_BROKER_URL='$(TEST_REDIS)/8' $(SERVERS) \
		-o cache_dir=.pytest_cache/redis || failed=1; \
	wait $$pass || failed=1; \
	echo '== broker: RabbitMQ'; cat $$other; rm $$other; [ -z "$$failed" ]

mutants: install ## Break the engine on purpose, one guarantee at a time, and see a test notice each (3 to 6 min)
	$(BIN)/python -m tests.mutants

chaos: install ## Try CHAOS_EXAMPLES random histories, then besiege the real stack for CHAOS_SECONDS
	PROPERTY_EXAMPLES=$(CHAOS_EXAMPLES) $(BIN)/pytest -q tests/property
	$(BIN)/pytest -q -m siege
	$(BIN)/python -m tests.chaos --seconds $(CHAOS_SECONDS) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) \
		$(if $(CHAOS_BROKER),--broker $(CHAOS_BROKER))

bench: install ## Measure what benchmarks/ measures, each a table (sweeps, quota: about 5 min each; 4 GB of disk)
	@set -e; for one in benchmarks/[a-z]*.py; do \
		name=$$(basename $$one .py); echo "== $$name"; $(BIN)/python -m benchmarks.$$name; \
	done

screenshots: browser ## Make docs/images anew
	SCREENSHOTS=docs/images $(BIN)/pytest -q tests/flower/test_browser.py tests/flower/test_walk.py \
		tests/webapp/test_browser.py

reference: install ## Make docs/cli.md, docs/settings.md and the pictures of the booking sagas anew
	$(BIN)/python -m tests.reference

docs: install ## Make a site of the documents and the docstrings, in build/docs
	$(BIN)/sphinx-build -W --keep-going -q -c docs . build/docs

check: install ## Lint, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: install ## Look for known faults in what is installed; needs PyPI's own service, which mirrors lack
	@$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/frozen.txt
	@$(BIN)/pip-audit --requirement $(VENV)/frozen.txt --no-deps --disable-pip --strict --progress-spinner off \
		2> $(VENV)/audit.log || { grep -v ^WARNING $(VENV)/audit.log | tail -n 1; exit 1; }

format: install ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## Remove what the targets above have made, the demonstration's data included; other data stays
	-@[ ! -x $(BIN)/sagajobs ] || $(BIN)/sagajobs demo --clean
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
