# Every target sets itself up: `make test` in a fresh clone is all there is to type.
# Needs GNU make, Python 3.11 to 3.13 with venv, and a package index to install from.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11 python3  # the first of these that will do is used
PYTEST_ARGS ?=                # such as PYTEST_ARGS="-k tuning -x"
TEST_WORKERS ?= 2             # processes that run the tests, a file at a time; 0 for this one alone
DEMO_ARGS ?=                  # such as DEMO_ARGS="--out somewhere"
LOCK_ARGS ?=
LOWEST_TESTS ?= tests/test_augmentation.py tests/test_dicom.py tests/test_radiographs.py tests/test_files.py tests/test_run_of_version_0_1.py tests/test_cli.py

BIN := .venv/bin
INSTALLED := .venv/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input

export TF_CPP_MIN_LOG_LEVEL ?= 3

# Shell: leaves the first usable interpreter in $$python, or says in one line what is missing.
define find_python
python=; \
for candidate in $(PYTHON); do \
  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
  then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "Expected Python 3.11 to 3.13 with venv as one of: $(strip $(PYTHON)). Install it, or name it with make PYTHON=/path/to/python3.12." >&2; \
  exit 1; \
fi
endef

.PHONY: help setup demo test test-all test-lowest bench fuzz lint docs lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s%s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) ## Install what the lock file names into .venv (the other targets do it by themselves)

# The stamp goes first and comes last, so an interrupted installation is seen and started anew.
$(INSTALLED): requirements.lock pyproject.toml
	@$(find_python); \
	if [ -e $@ ]; then rm $@; echo "Updating .venv"; \
	else echo "Making .venv with $$python (once; a minute or two)"; "$$python" -m venv --clear .venv; fi; \
	$(PIP_INSTALL) --require-hashes -r requirements.lock; \
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .; \
	touch $@

demo: $(INSTALLED) ## Draw synthetic radiographs, search, train, report: offline, in minutes
	@$(BIN)/pneumokeras demo $(DEMO_ARGS)

test: $(INSTALLED) ## Run the tests, without the slow ones
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not slow and not benchmark" $(PYTEST_ARGS)

test-all: $(INSTALLED) ## Run every test
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-lowest: ## Install the oldest allowed version of each dependency into .venv-lowest and run the tests that touch them
	@$(find_python); \
	"$$python" -m venv --clear .venv-lowest; \
	.venv-lowest/bin/python -m pip install --quiet --quiet --disable-pip-version-check uv; \
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
	  --editable '.[dicom,imagenet]' 'hypothesis>=6.100' 'pytest>=8.2'; \
	.venv-lowest/bin/python -m pytest -p no:cacheprovider -m "not slow and not benchmark" $(LOWEST_TESTS) $(PYTEST_ARGS)

bench: $(INSTALLED) ## Measure speed and print the ratios
	@$(BIN)/python -m pytest tests/benchmarks -s -o python_files='bench_*.py' $(PYTEST_ARGS)

fuzz: $(INSTALLED) ## Damage files of every kind for ten minutes, or FUZZ_SECONDS, and see them read or refused
	@OPENCV_LOG_LEVEL=SILENT $(BIN)/python -m pytest tests/fuzz -q -o python_files='fuzz_*.py' $(PYTEST_ARGS)

lint: $(INSTALLED) ## Check style, format, types and the directions of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

docs: $(INSTALLED) ## Build the documentation into docs/_build/html
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lock: ## Bring requirements.lock in line with pyproject.toml; LOCK_ARGS=--upgrade for newer versions
	@$(find_python); \
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	"$$python" -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip install --quiet --quiet --disable-pip-version-check uv; \
	"$$scratch/bin/uv" pip compile pyproject.toml --extra dev --extra dicom --extra docs --extra imagenet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet $(LOCK_ARGS) -o requirements.lock; \
	echo "requirements.lock: $$(grep -c '==' requirements.lock) packages"
