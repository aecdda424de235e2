"""betr-spark: benchmark-targeted ranking and selection of pretraining text on Apache Spark.

`run`, `load_config` and `read_selection` are its Python API, described in docs/python.md. They are imported when they are first
used, because `import betr_spark` alone loads neither Spark nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from betr_spark.api import read_selection, run
    from betr_spark.config import load_config

__version__ = "0.1.0"
__all__ = ["__version__", "load_config", "read_selection", "run"]

_MODULES = {"load_config": "betr_spark.config", "read_selection": "betr_spark.api", "run": "betr_spark.api"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
