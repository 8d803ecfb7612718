# What one needs: Python 3.11 or newer, make and git. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export PYTHONPATH := $(CURDIR)

PIP := $(PY) -m pip --disable-pip-version-check -qq
LOCK := CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/pip-compile --quiet --strip-extras --no-allow-unsafe --annotation-style=line \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

# A file's tests share its servers, so a file goes to one worker; the long ones are not kept for the end.
WORKERS := 3
# Workers and servers share the cores; linear algebra that took all of them for each process would starve the rest.
test soak: export OMP_NUM_THREADS := 1
test soak: export OPENBLAS_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help run install setup test soak check format bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## start the MLflow server and the dashboard; Ctrl-C stops both
	@exec $(PY) -m stack.run

install: $(VENV)/.runtime ## what running needs, into .venv

setup: $(VENV)/.development ## everything for running and developing, into .venv

test: $(VENV)/.development ## every test: unit, page, server, browser
	@exec $(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20

soak: $(VENV)/.development ## a thousand kills, races and faults each (ROUNDS=50 for fewer), then every test on PostgreSQL
	@SIGNOFF_ROUNDS=$(or $(ROUNDS),1000) $(PY) -m pytest -s -o log_cli=false \
		tests/test_kill.py tests/test_races.py tests/test_faults.py tests/test_manifest.py tests/test_descriptors.py \
		tests/test_sources.py tests/test_lifecycle.py tests/test_openapi.py
	@SIGNOFF_ROUNDS=4 $(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile -k postgresql

check: $(VENV)/.development ## lint, format and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

format: $(VENV)/.development ## let ruff put the code in order
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(VENV)/.development ## the benchmarks: a table on screen and bench/results.json
	@exec $(PY) -m bench

lock: $(VENV)/.development ## resolve pyproject.toml again; UPGRADE=1 takes newer versions
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra dev --constraint requirements.txt \
		--output-file requirements-dev.txt pyproject.toml

clean: ## remove .venv and caches; the registry in .signoff stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps make set-up free once it is done, and are renewed when a lock file changes.
$(PY):
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "Signoff needs Python 3.11 or newer, and '$(PYTHON)' was not found; name one with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Signoff needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu install the package python3-venv." >&2; exit 1; }
	@echo "Making $(VENV) …"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.runtime: requirements.txt | $(PY)
	@echo "Installing what is needed to run (a few minutes the first time) …"
	@$(PIP) install --requirement requirements.txt
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" "%s" "$$@"\n' "$(CURDIR)" "$(CURDIR)/$(PY)" "$(CURDIR)/cli.py" > $(VENV)/bin/signoff
	@chmod +x $(VENV)/bin/signoff
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing what is needed to develop …"
	@$(PIP) install --requirement requirements-dev.txt
	@touch $@
