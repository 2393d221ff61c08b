# make run     set up, then python -m knexa matchmaker=linucb seed=42 (ARGS="..." for anything else)
# make test    set up, then the whole test suite
# make test-fast   all of it but whole runs and other slow tests, while you work
# make torture set up, then kill one small run fifty times and compare what it wrote (minutes)
# make fuzz    set up, then try 2,000 command lines, good and bad (minutes)
# make lint, types, wheel   what .ci/run checks beside the tests
# make clean   remove .venv, dist and build
# make setup   the environment in .venv alone; at once when nothing changed
SHELL := /bin/bash
ARGS ?= matchmaker=linucb seed=42
PIP_ARGS ?=
TEST_ARGS ?=
TORTURE_ARGS ?= --kills 50 --seed 0
FUZZ_ARGS ?= --lines 2000 --seed 0
NUM_TEST_WORKERS ?= 2

PYTHON := .venv/bin/python
# Named after this folder too: an editable install of a moved or copied checkout points elsewhere.
STAMP := .venv/.set-up-$(shell printf '%s' '$(CURDIR)' | cksum | cut -d ' ' -f 1)
FIND_PYTHON := for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	>/dev/null 2>&1 && { command -v $$p; break; }; done

.PHONY: run test test-fast torture fuzz setup lint types wheel clean

run: setup
	@$(PYTHON) -m knexa $(ARGS)

# One thread a worker: the models are tiny, and two threads on them are slower than one.
test: setup
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(NUM_TEST_WORKERS) --dist loadfile \
		--no-loadscope-reorder $(TEST_ARGS)

test-fast: TEST_ARGS += -m "not slow"
test-fast: test

torture: setup
	@$(PYTHON) -m tests.torture $(TORTURE_ARGS)

fuzz: setup
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PYTHON) -m tests.config.config_fuzz $(FUZZ_ARGS)

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(PYTHON) ]; then \
		found=$$($(FIND_PYTHON)); \
		if [ -z "$$found" ]; then \
			echo "error: no Python >= 3.11 and < 3.14 with venv and ensurepip was found;" \
				"install one (on Debian and Ubuntu: python3 and python3-venv)" >&2; \
			exit 1; \
		fi; \
		echo "setting up .venv with $$found: about 2.3 GB and three minutes, once"; \
		"$$found" -m venv .venv; \
	fi
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
		-c constraints.txt -e '.[dev]'
	@rm -f .venv/.set-up-*
	@touch $@

lint: setup
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

types: setup
	$(PYTHON) -m mypy

# Without isolation: the build backend is one of the pinned packages, nothing more is downloaded.
wheel: setup
	rm -rf dist
	$(PYTHON) -m build --wheel --no-isolation

clean:
	rm -rf .venv dist build
