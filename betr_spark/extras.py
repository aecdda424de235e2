"""The packages of the extras in pyproject.toml, which an installation may lack: found before any work, without an import."""

import importlib.util

from betr_spark.errors import SetupError

_PACKAGES = {"megatron": "megatron-core", "faiss": "faiss-cpu"}  # whose name is not that of the module


def require(*modules: str, extra: str, subject: str) -> None:
    """Check that optional packages are installed for this interpreter; nothing is imported.

    Args:
        modules: names to import, without a dot; the package of each has the same name, with `-` for `_`, or is in a table.
        extra: of betr-spark, that installs them.
        subject: what needs them, for the message.

    Raises:
        SetupError: one is missing; the line names the first that is.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            package = _PACKAGES.get(module, module.replace("_", "-"))
            raise SetupError(f"{subject}: {package} is not installed; install betr-spark[{extra}]")
