"""The rules that keep the rooms apart, by walking the imports."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "betr_spark"
ROOMS = [  # imports run from a later room to an earlier one
    "redaction", "errors", "extras", "schemas", "logs", "revision", "intervals", "config", "kernels", "spark", "storage", "ordering",
    "corpus", "targets", "pipeline.stage",
    "scoring", "contamination", "ranking", "training", "features", "dedup", "selection", "explain", "report", "look",
    "evaluate", "mixture", "export", "upkeep", "draft", "pipeline", "api", "cli",
]  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def uses(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(package + ".") for name in imports(path))


def test_no_module_imports_pyspark_and_compiles_kernels() -> None:
    kernels = [p for p in MODULES if uses(p, "numba") or uses(p, "betr_spark.kernels.jit")]
    assert len(kernels) >= 4
    assert [p.name for p in kernels if uses(p, "pyspark")] == []


def test_only_tables_knows_delta_and_only_session_builds_one() -> None:
    delta = [p.name for p in MODULES if uses(p, "delta") or 'format("delta")' in p.read_text(encoding="utf-8")]
    assert delta == ["delta.py", "delta_log.py", "delta_upkeep.py"]
    builders = [p.name for p in MODULES if "SparkSession.builder" in p.read_text(encoding="utf-8")]
    assert builders == ["session.py"]


def room_of(name: str) -> str:
    """The room of a module: its first part, but for the stage protocol, which the stages import."""
    parts = name.removeprefix("betr_spark.").split(".")
    return "pipeline.stage" if parts[:2] == ["pipeline", "stage"] else parts[0]


def test_imports_run_along_the_data() -> None:
    backwards = []
    for path in MODULES:
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if room_of(name) not in ROOMS:
            continue
        later = ROOMS[ROOMS.index(room_of(name)) + 1 :]
        used = {
            room_of(used) for used in imports(path) if used.startswith("betr_spark.") and used != "betr_spark.pipeline"
        }
        backwards += [f"{name} imports {room}" for room in used if room in later]
    assert backwards == []


def test_modules_are_under_250_lines() -> None:
    assert [p.name for p in MODULES if len(p.read_text(encoding="utf-8").splitlines()) > 250] == []


def test_importing_the_package_is_light() -> None:
    code = "import sys, betr_spark, betr_spark.config, betr_spark.cli; betr_spark.load_config; print({'pyspark', 'torch', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
