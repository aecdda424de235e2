"""The documentation site: it builds, needs no network, has what the code has, and a wrong page stops the build."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main
from test_docs import PAGES, README, TABLES, keys_of

from betr_spark.cli import app
from betr_spark.config import Config

REPOSITORY = Path(__file__).parents[1]


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=checkout, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """What a page loads, and its text without tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag in ("script", "img", "iframe") or (tag == "link" and values.get("rel") != "canonical"):
            self.loaded += [value for value in (values.get("src"), values.get("href")) if value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_page_is_built_and_none_loads_anything_from_the_network(site: Path) -> None:
    pages = [page.relative_to(REPOSITORY / "docs") for page in PAGES if page != README]
    missing = [
        page for page in pages if not (site / str(page).replace("README.md", "index.md")).with_suffix(".html").exists()
    ]
    assert missing == []
    remote = {link for path in site.rglob("*.html") for link in Page(path).loaded if re.match(r"(\w+:)?//", link)}
    assert remote == set()
    assert [
        file.name
        for file in site.rglob("*.css")
        if re.search(r"(url\(|@import )[\"']?https?:", file.read_text("utf-8"))
    ] == []
    assert [
        path for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text("utf-8")
    ] == []  # fetched when shown


def test_the_reference_has_every_key_column_and_option(site: Path) -> None:
    keys = Page(site / "reference/configuration-keys.html").text
    assert [key for key, _ in keys_of(Config) if key not in keys and key != "evaluate.off_target.NAME"] == []
    assert "selections.NAME.sample.curve.drop" in keys  # below an optional part
    columns = Page(site / "reference/table-columns.html").text
    for ddl in TABLES.values():
        names = [column.split()[0] for column in re.sub(r"<[^()]*?>+", "", ddl).split(", ")]
        assert [name for name in names if name not in columns] == []
    commands = Page(site / "reference/commands.html").text
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"betr-spark {name}" in commands
        assert [option for part in command.params for option in part.opts if option not in commands] == []


def test_a_wrong_link_a_wrong_anchor_and_a_lost_page_stop_the_build(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "docs", checkout / "docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", checkout)
    for name in ("betr_spark", "benchmarks"):
        (checkout / name).symlink_to(REPOSITORY / name)
    with (checkout / "docs/glossary.md").open("a", encoding="utf-8") as page:
        page.write("\n[one](nowhere.md) [two](tables.md#nowhere) [three](../nowhere.md)\n")
    (checkout / "docs/lost.md").write_text("# Lost\n", encoding="utf-8")
    done = build(checkout, tmp_path / "site")
    assert done.returncode != 0
    for problem in ("'nowhere.md'", "'tables.md#nowhere'", "'../nowhere.md'", "lost.md"):
        assert problem in done.stderr, done.stderr
