# Everything runs from .venv, made here and filled with the exact versions of constraints.txt.
# An install is repeated only when pyproject.toml or constraints.txt is newer than its stamp.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?=
EXTRAS ?= test
ARGS ?=
# Processes that share the test files between them; the servers that they start want a core each.
WORKERS ?= 2

BIN := .venv/bin
MADE := .venv/.made-by-make
PINS := pyproject.toml constraints.txt
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
AUDITORS := cyclonedx-bom==7.5.0 pip-audit==2.10.1
PACKAGES := env policies replay serve

# What `make install` adds: extras that were asked for by name, not the default of the tests.
ASKED := $(if $(filter file default undefined,$(origin EXTRAS)),,.venv/.installed-$(EXTRAS))

.PHONY: help install run check test clients study lint pictures wheel sbom audit clean

# Folders whose tests start no process, train nothing and simulate no world. What takes long in them all
# the same bears the marker `slow`; a new test of these folders is in the selection by itself.
QUICK := tests/test_*.py $(wildcard tests/env/test_*.py tests/policies/test_*.py tests/replay/test_*.py) \
  $(addprefix tests/env/,arrays columns features items pages users) \
  $(addprefix tests/policies/,candidates ranker slots) \
  $(addprefix tests/replay/,estimators join report) \
  $(addprefix tests/serve/,feed wire)

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "PYTHON=/path/to/python3.11  the interpreter for .venv (default: the first 3.11 or 3.12 found)"
	@echo "EXTRAS=test                 what make check, test, study and lint install (the default: everything)"
	@echo "ARGS='...'                  arguments for nextswipe up, pytest, a study or the wheel"

install: .venv/.installed $(ASKED)  ## make .venv and install nextswipe into it; with EXTRAS=titles,train also these

run: install  ## install, then start the engine: nextswipe up
	exec $(BIN)/nextswipe up $(ARGS)

check: lint  ## lint, then the fast half of the tests, in at most 90 seconds on two cores
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:schemathesis -m 'not slow' $(QUICK) $(ARGS)

test: lint  ## install the test tools, lint, then run every test and doctest
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)  # as the server runs

clients: .venv/clients/.installed  ## install generators of clients, which make test then tries on the API

lint: .venv/.installed-$(EXTRAS)  ## check style, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

study: .venv/.installed-$(EXTRAS)  ## run a study of the defaults: make study ARGS='coldstart --json'
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.studies $(ARGS)

pictures: .venv/.installed-$(EXTRAS)  ## take the pictures of the page in docs/ anew, with Chromium
	PYTHONPATH=tests/support $(BIN)/python tests/support/pictures.py $(ARGS)

wheel: install  ## build the wheel, install it into an empty venv, and let it serve a page
	$(BIN)/python tests/support/wheels.py $(ARGS)

sbom: .venv/audit/.installed .venv/.installed  ## write sbom.json: what is installed, with versions and licences
	.venv/audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	  --output-file sbom.json $(BIN)/python

audit: .venv/audit/.installed  ## look for known vulnerabilities of the exact versions; needs a network
	.venv/audit/bin/pip-audit --no-deps --disable-pip --requirement constraints.txt

clean:  ## remove what make made; data/ stays
	if [ -e $(MADE) ]; then rm -rf .venv; else rm -f .venv/.installed*; fi
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(wildcard $(PACKAGES) tests) -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/.installed: $(PINS) | $(BIN)/pip
	$(PIP_INSTALL) --editable .
	touch $@

.venv/.installed-$(EXTRAS): $(PINS) | $(BIN)/pip
	$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	touch $@

# A folder of its own: openapi-python-client asks for an older typer than nextswipe has.
.venv/clients/.installed: $(wildcard tests/serve/http/clients/*.txt tests/serve/http/clients/*.json) | $(BIN)/pip
	$(BIN)/python -m venv .venv/clients
	.venv/clients/bin/pip install --disable-pip-version-check --requirement tests/serve/http/clients/requirements.txt
	if command -v npm >/dev/null; then \
	  cp tests/serve/http/clients/package.json .venv/clients/ && \
	  npm install --prefix .venv/clients --no-package-lock --no-audit --no-fund; \
	else echo "without npm, the test of TypeScript's types is skipped" >&2; fi
	touch $@

.venv/audit/.installed: Makefile | $(BIN)/pip
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/pip install --disable-pip-version-check $(AUDITORS)
	touch $@

# Each candidate is run, not just looked up: a shim may be on the path with no Python behind it, and
# Debian's python3 may lack venv.
$(BIN)/pip:
	@for python in $(or $(PYTHON),python3.11 python3.12 python3 python); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then \
	    echo "creating .venv with $$("$$python" --version)"; \
	    "$$python" -m venv .venv; \
	    touch $(MADE); \
	    exit 0; \
	  fi; \
	done; \
	echo "nextswipe needs Python 3.11 or 3.12 with its venv module, and found none as: $(or $(PYTHON),python3.11 python3.12 python3 python)." >&2; \
	echo "Install one (on Debian: python3 and python3-venv), or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	exit 1
