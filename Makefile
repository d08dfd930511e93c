# Everything runs in a virtual environment that scripts/venv makes first (PYTHON=python3.12 chooses its Python).
# More arguments go through: make test ARGS="-k windows"

VENV ?= .venv
export VENV
RUN = scripts/venv && $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults bench lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## a harvest to watch: real servers, workers and a simulated Opencast on this machine
	@$(RUN) demo $(ARGS)

test: ## the tests that take seconds
	@$(RUN) pytest -m "not fault" $(ARGS)

test-faults: ## the slow ones: processes and servers are killed under load
	@$(RUN) pytest -m fault $(ARGS)

bench: ## how fast this machine harvests and indexes
	@$(RUN) benchmarks $(ARGS)
	@$(RUN) benchmarks.index $(ARGS)
	@$(RUN) benchmarks.zoom $(ARGS)

lint: ## ruff and mypy
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
