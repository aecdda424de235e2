"""Tables of a whole run, for tests that compare them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

TABLES = {
    "ranked_sample": "doc_id source best_rank best_cosine best_benchmark best_example target_score by_benchmark label split",
    "features": "doc_id source n_bytes n_words n_tokens content_hash bands signature logit_betr input_file batch",
    "duplicates": "doc_id kept_doc_id kind similarity evidence component_id component_size",
    "quarantine": "doc_id reason detail row input_file",
    "selected/betr-30": "rank doc_id text source url score logit n_tokens",
    "selected/random-30": "rank doc_id text source url score logit n_tokens",
    "selected/best-50": "rank doc_id text source url score logit n_tokens",
}


def tables(output: Path, names: Iterable[str] = TABLES) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table but `runs`, in an order of their own."""
    found = {}
    for name in names:
        rows = DeltaTable(str(output / name)).to_pyarrow_table().to_pylist()
        for row in rows:
            row.pop("input_file", None)
            row.pop("batch", None)
        found[name] = sorted(rows, key=str)
    return found


def versions(output: Path) -> dict[str, int]:
    return {
        p.parent.relative_to(output).as_posix(): DeltaTable(str(p.parent)).version() for p in output.rglob("_delta_log")
    }
