#!/bin/sh
# Installs the wheel and the locked packages on each node of a Databricks cluster, without Spark and Delta: the runtime has its own.
set -eu
FOLDER=/Workspace/Shared/betr-spark
PIP=/databricks/python/bin/pip
grep -vE '^(pyspark|py4j|delta-spark)==' "$FOLDER/requirements.lock" >/tmp/betr-spark-requirements.txt
"$PIP" install --quiet --no-deps --requirement /tmp/betr-spark-requirements.txt
"$PIP" install --quiet --no-deps "$FOLDER"/betr_spark-*.whl
