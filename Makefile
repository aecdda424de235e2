# Everything runs from .venv. Requirements: Python 3.11 to 3.13, a JDK 17 or later, make, and a C++ compiler.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
DEMO_DOCUMENTS ?= 8000
DEMO_SET ?=
BIN := .venv/bin
# Not in requirements.lock: these are more than 130 packages, and only the tests of docs/examples use them.
SCHEDULERS := "apache-airflow>=3.3,<4" "awscli>=1.46,<2" "botocore>=1.43,<2" "databricks-sdk>=0.162" "jsonschema>=4.26,<5" pyyaml
# Images of containers set this; without compiled files each import of sentence-transformers takes 17 s instead of 7.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-all test-s3 lint docs e2e e2e-rank examples bench wheel archive archive-rank archive-export package clean

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.done ## create .venv, install the locked packages, fetch Delta's jars

.venv/.done: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "error: $(PYTHON): Python 3.11 to 3.13 is required; name one with make PYTHON=..." >&2; exit 2; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "error: no C++ compiler on PATH; one is required to build fastText from source" >&2; exit 2; }
	@command -v java >/dev/null || [ -n "$${JAVA_HOME:-}" ] || { echo "error: no java on PATH and no JAVA_HOME; a JDK 17 or later is required" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/betr-spark jars
	@touch $@

demo: setup ## build a corpus from this machine's Python packages, run all stages on it, print what was selected
	$(BIN)/python conf/demo/build_corpus.py --output out/demo-corpus --documents $(DEMO_DOCUMENTS)
	$(BIN)/betr-spark run --config conf/demo.yaml $(DEMO_SET)
	$(BIN)/betr-spark report --config conf/demo.yaml

test: setup ## run the test suite and print the ten slowest tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup ## the same, with more cases of some tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow or not slow"

MOTO := moto[server]==5.2.5
test-s3: setup .venv/moto/.done ## run the tests on an S3 store of this machine; the first time, fetch S3A's jars (700 MB)
	$(BIN)/betr-spark jars --s3 .venv/s3-jars
	S3_JARS=$(CURDIR)/.venv/s3-jars MOTO_SERVER=$(CURDIR)/.venv/moto/bin/moto_server $(BIN)/python -m pytest tests/s3

# In an environment of its own: the packages of the store do not change those of the product.
.venv/moto/.done: | .venv/.done
	$(PYTHON) -m venv .venv/moto
	.venv/moto/bin/python -m pip install --quiet --disable-pip-version-check "$(MOTO)"
	@touch $@

lint: setup ## run ruff, mypy --strict and deptry
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy betr_spark jobs benchmarks
	$(BIN)/deptry .

docs: setup ## build the documentation site in out/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "out/site/index.html"

e2e: archive ## start a master and two workers, run the small environment there by spark-submit, compare with local mode
	$(BIN)/python tests/e2e.py --environment dist/betr-spark-env.tar.gz

e2e-rank: package ## the same, and also run `rank` on the cluster, with the environment for it; longer
	$(BIN)/python tests/e2e.py --environment dist/betr-spark-env.tar.gz --rank-environment dist/betr-spark-env-rank.tar.gz

examples: setup ## check docs/examples with Airflow, the AWS command line and databricks-sdk, in .venv-examples
	$(PYTHON) -m venv .venv-examples
	.venv-examples/bin/python -m pip install --quiet --disable-pip-version-check $(SCHEDULERS)
	BETR_SPARK_EXAMPLES_PYTHON=$(CURDIR)/.venv-examples/bin/python $(BIN)/python -m pytest -q tests/test_examples.py

bench: setup ## measure the pass over the text, write benchmarks/RESULTS.md
	$(BIN)/python benchmarks/one_pass.py --output benchmarks/RESULTS.md

# Not in the archives: Spark's jars, which the cluster has, and files that no stage opens on a CPU: tests, headers, Triton, cuDNN's
# engines.
UNPACKED := --exclude '*/pyspark/jars/*' --exclude '*/pyspark/examples/*' \
	$(foreach package,numba numpy pandas pyarrow scipy,--exclude '*/$(package)/*tests/*' --exclude '*/$(package)/*include/*') \
	--exclude '*/site-packages/triton/*' --exclude '*/nvidia/cudnn/lib/libcudnn_engines_*' \
	--exclude '*/nvidia/*/include/*' --exclude '*/site-packages/torch/include/*'
RANK_EXTRAS := [rank,fasttext,tokens,nearest]

# $(call archived,NAME,EXTRAS): dist/NAME.tar.gz, an environment with the wheel, its dependencies and those of the extras
define archived
	$(PYTHON) -m venv --without-pip dist/$(1)
	$(BIN)/python -m pip --python dist/$(1)/bin/python install --quiet --disable-pip-version-check --constraint requirements.lock "$$(ls dist/betr_spark-*.whl)$(2)"
	$(BIN)/venv-pack --quiet --prefix dist/$(1) --output dist/$(1).tar.gz --compress-level 1 $(UNPACKED)
	rm -rf dist/$(1)
	@du -h dist/$(1).tar.gz
endef

wheel: setup
	rm -rf dist && mkdir -p dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

archive: wheel
	$(call archived,betr-spark-env)

archive-rank: wheel
	$(call archived,betr-spark-env-rank,$(RANK_EXTRAS))

archive-export: wheel ## build in dist/ an environment for executors of `export`
	$(call archived,betr-spark-env-export,[export])

package: archive archive-rank ## build in dist/ the wheel and two environments for spark-submit --archives: a small one, and one for `rank`

clean: ## remove .venv and every generated folder
	rm -rf .venv .venv-examples out dist spark-warehouse .pytest_cache .mypy_cache .ruff_cache .hypothesis
