"""betr-spark: benchmark-targeted ranking and selection of pretraining text on Apache Spark."""

__version__ = "0.1.0"
