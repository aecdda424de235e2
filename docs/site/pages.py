"""Hooks of mkdocs: reference pages are generated from the code; links to files outside docs/ lead to copies on the site."""

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).parents[1]
sys.path[:0] = [str(DOCS / "site"), str(DOCS.parent)]  # mkdocs loads a hook by its path

import reference  # noqa: E402

# Files of the repository that pages link to, and the pages of the site that have their content.
OUTSIDE = {"benchmarks/RESULTS.md": "results.md", "README.md": "index.md"}


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the generated pages, and the results of benchmarks."""
    for name, text in reference.pages(DOCS).items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    files.append(File.generated(config, "results.md", abs_src_path=str(DOCS.parent / "benchmarks/RESULTS.md")))
    return files


def on_page_markdown(markdown: str, *, page: "Page", config: "MkDocsConfig", files: "Files") -> str:  # noqa: ARG001
    """Replace links that lead out of docs/ by links to the pages of `OUTSIDE`; mkdocs reports all others."""
    here = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, link[1]))
        if target not in OUTSIDE:
            return link[0]
        return f"]({posixpath.relpath(OUTSIDE[target], here or '.')}"

    return re.sub(r"\]\(((?:\.\./)+[\w./-]+)", inside, markdown)
