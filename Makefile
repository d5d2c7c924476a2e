# Every target sets up what it needs, and is safe to run again. `make help` lists them.
#   make setup TORCH=gpu         torch with CUDA (default: the CPU build)
#   make setup PYTHON=python3.12 another interpreter

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# A test run starts some hundred Python processes. Each would compile all of our files again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test proofs up down status doctor lint format types imports unit integration docs lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Make the two environments, at the same time: platform and model server
	@$(MAKE) --no-print-directory -j2 .venv/ready .venv-server/ready

demo: setup  ## See the whole platform at work (minutes)
	@$(BIN)/twinline demo

test: setup lint types imports unit integration  ## Lint, types, import rules, unit and integration tests

proofs: setup  ## Every proof in its long form (hours); SHORT=1: the short forms, as in CI
ifdef SHORT
	@$(BIN)/pytest -m 'proof and not by_command'
else
	@$(BIN)/python -m proofs all
endif

up: setup  ## Start the embedded stack
	@$(BIN)/twinline up

# These two set nothing up: one does not want to wait for that to stop something.
down:  ## Stop it: no message lost, no process left
	@if [ -x $(BIN)/twinline ]; then $(BIN)/twinline down; else echo "nothing is set up, so nothing runs"; fi

status:  ## Show what runs and what is served
	@if [ -x $(BIN)/twinline ]; then $(BIN)/twinline status; else echo "nothing is set up: make setup"; fi

doctor: setup  ## Check this machine
	@$(BIN)/twinline doctor

lint: .venv/ready  ## Style and common mistakes
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: .venv/ready  ## Rewrite files to the style
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: .venv/ready  ## mypy --strict
	@$(BIN)/mypy

imports: .venv/ready  ## Who may import whom
	@$(BIN)/lint-imports

unit: setup  ## Tests that start no server and take no seconds, on all cores
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --dist worksteal -m 'not integration' tests/unit tests/architecture tests/adapter_suites

integration: setup  ## Tests with a real broker, Triton, store and Airflow, and those of a GPU where there is one
	@$(BIN)/python -c 'from bench.base_release import base_release_folder; base_release_folder()' # once, with all cores
	@$(BIN)/pytest -n 2 --dist loadfile -m 'integration or gpu'

docs: .venv/ready  ## Draw the pictures of docs/ from docs/figures/results.jsonl, and write the page of hybrid search
	@$(BIN)/python docs/architecture.py
	@$(BIN)/python -m bench plot --results docs/figures/results.jsonl
	@$(BIN)/python -m bench page

lock: setup  ## Write constraints.txt from what is installed
	@$(BIN)/python ops/lock.py

clean: down  ## Remove the environments and all state of the embedded stack
	@rm -rf .venv .venv-server var

# Stamps: set-up runs again when one of these files changes, and at no other time.
.venv/ready: pyproject.toml constraints.txt ops/setup.sh
	@ops/setup.sh platform
	@touch $@

.venv-server/ready: ops/server-requirements.txt constraints.txt ops/setup.sh
	@ops/setup.sh server
	@touch $@
