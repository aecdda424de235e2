"""Which revision of the source the package is."""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_HASH_LENGTH = 40


@cache
def git_revision() -> str:
    """Hash of the commit that pip installed the package from, or of the checkout that it runs in; empty if unknown."""
    try:
        origin = json.loads(distribution("betr-spark").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    return str(origin.get("vcs_info", {}).get("commit_id", "")) or _checkout(Path(__file__).parents[1])


def _checkout(folder: Path) -> str:
    git = folder / ".git"
    try:
        if git.is_file():  # a worktree: `gitdir: PATH`
            git = folder / git.read_text(encoding="utf-8").partition(": ")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        common = git / "commondir"
        shared = (git / common.read_text(encoding="utf-8").strip()) if common.exists() else git
        if (shared / name).exists():
            return (shared / name).read_text(encoding="utf-8").strip()
        packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line[:_HASH_LENGTH] for line in packed if line.endswith(f" {name}")), "")
