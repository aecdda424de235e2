"""RESULTS.md has a section for each bench; a bench replaces its own and leaves the others."""

import re
from pathlib import Path


def write_section(path: Path, text: str) -> None:
    """Put a section, whose first line is `# TITLE`, in place of the one with the same title, or at the end."""
    title = text.splitlines()[0]
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = re.split(r"(?m)^(?=# )", old)
    kept = [part for part in sections if part.strip() and part.splitlines()[0] != title]
    place = next((i for i, part in enumerate(sections) if part.startswith(title + "\n")), len(kept))
    kept.insert(min(place, len(kept)), text)
    path.write_text("\n".join(part.strip() + "\n" for part in kept), encoding="utf-8")
