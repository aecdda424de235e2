# Everything runs from .venv; the only things wanted beforehand are Python 3.11+, a JDK 17+, make and a C++ compiler.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
DEMO_DOCUMENTS ?= 8000
DEMO_SET ?=
BIN := .venv/bin

.PHONY: help setup demo test lint e2e bench package clean

help: ## print this help
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.done ## make .venv, install the locked packages, fetch Delta's jars once

.venv/.done: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is wanted; name one with PYTHON=..." >&2; exit 2; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "error: a C++ compiler is wanted (fastText is built from source)" >&2; exit 2; }
	@command -v java >/dev/null || [ -n "$${JAVA_HOME:-}" ] || { echo "error: a JDK 17 or later is wanted" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/betr-spark jars
	@touch $@

demo: setup ## build a corpus from this machine's Python packages, run the whole line on it, print what was selected
	$(BIN)/python conf/demo/build_corpus.py --output out/demo-corpus --documents $(DEMO_DOCUMENTS)
	$(BIN)/betr-spark run --config conf/demo.yaml $(DEMO_SET)
	$(BIN)/betr-spark report --config conf/demo.yaml

test: setup ## run the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup ## ruff, mypy --strict and deptry
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy betr_spark jobs benchmarks
	$(BIN)/deptry .

e2e: package ## a real master and two workers, spark-submit with the packaged environment, compared with local mode
	$(BIN)/python tests/e2e.py --environment dist/betr-spark-env.tar.gz

bench: setup ## what the one pass costs, beside Spark's floor and other tools; writes benchmarks/RESULTS.md
	$(BIN)/python benchmarks/one_pass.py --output benchmarks/RESULTS.md

# Left out of the archive: what a CPU encoder never opens (Triton, cuDNN's engines, headers), 1.9 of 7.2 GB.
UNPACKED := --exclude '*/site-packages/triton/*' --exclude '*/nvidia/cudnn/lib/libcudnn_engines_*' \
	--exclude '*/nvidia/*/include/*' --exclude '*/site-packages/torch/include/*'

package: setup ## dist/: the wheel, and betr-spark-env.tar.gz, a relocatable environment for spark-submit --archives
	rm -rf dist && mkdir -p dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(PYTHON) -m venv dist/env
	dist/env/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock dist/betr_spark-*.whl
	cp .venv/lib/python3.*/site-packages/pyspark/jars/io.delta_*.jar dist/env/lib/python3.*/site-packages/pyspark/jars/
	$(BIN)/venv-pack --quiet --prefix dist/env --output dist/betr-spark-env.tar.gz --compress-level 1 $(UNPACKED)
	rm -rf dist/env

clean: ## remove the environment and all that was made
	rm -rf .venv out dist spark-warehouse .pytest_cache .mypy_cache .ruff_cache .hypothesis
