# Everything runs in a virtual environment that scripts/venv makes first (PYTHON=python3.12 chooses its Python).
# More arguments go through: make test ARGS="-k windows"

VENV ?= .venv
export VENV
# Tests and the demo start hundreds of processes, and each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
RUN = scripts/venv && $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.PHONY: help demo test test-dates test-faults chaos bench lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## watch a harvest: real servers and workers, simulated Opencast and Zoom, all on this machine
	@$(RUN) demo $(ARGS)

test: ## all tests but the slow ones, about half an hour on two cores
	@$(RUN) pytest -m "not fault" $(ARGS)

test-dates: ## the tests that read a clock, on more than 40 dates (needs datefudge)
	@scripts/venv && scripts/dates $(ARGS)

test-faults: ## the slow tests: they kill processes and servers under load
	@$(RUN) pytest -m fault $(ARGS)

SEED ?= 1
SEEDS ?= 1

chaos: ## break a whole site at random while it harvests: SEED=7, SEEDS=10 for that many from there on
	@$(RUN) chaos --seed $(SEED) --seeds $(SEEDS) $(ARGS)

bench: ## measure how fast this machine harvests and indexes
	@$(RUN) benchmarks $(ARGS)
	@$(RUN) benchmarks.privacy $(ARGS)
	@$(RUN) benchmarks.bulk $(ARGS)
	@$(RUN) benchmarks.index $(ARGS)
	@$(RUN) benchmarks.zoom $(ARGS)
	@$(RUN) benchmarks.course $(ARGS)
	@$(RUN) benchmarks.scan $(ARGS)
	@$(RUN) pip install -q -r requirements-bench.txt -c constraints.txt
	@$(RUN) benchmarks.viewings $(ARGS)
	@$(RUN) benchmarks.curve --docs $(ARGS)

lint: ## check with ruff, mypy and import-linter (who may import whom)
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@scripts/venv && $(VENV)/bin/lint-imports --cache-dir .cache/imports --no-logo

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
