"""The page of hostile documents: what it holds, how it is written, and how Chromium shows it without a network."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_config
from jinja2 import Environment, PackageLoader

from betr_spark.config import load_config
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.page import render
from betr_spark.report.page.contents import HEADINGS
from betr_spark.report.page.gather import PageFigures, gather
from betr_spark.report.page.render import MAX_BYTES

SCRIPT, RIGHT_TO_LEFT = "<script>alert(1)</script>", "\u202eمرحبا بالعالم، هذا نص عربي"
ANSI, WORD = "\x1b[31mred\x1b[0m \x00nul", "w" * 1000
HOSTILE = [SCRIPT, RIGHT_TO_LEFT, ANSI, WORD, "long " * 200_000, "$x^2$ \\frac{a}{b} {{ 7 * 7 }} {% raw %}"]
SOURCES = ["<img src=x onerror=alert(2)>", "$a_b$", "سورس", "漢字", "s" * 300, "plain"]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def hostile(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a finished run whose best documents are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [*HOSTILE, *(f"document {n} about {n * n} rivers and {n} bridges over them" for n in range(60))]
    columns = {
        "id": [f"<b>d{n:02d}</b>" for n in range(len(texts))],
        "text": texts,
        "source": [SOURCES[n % len(SOURCES)] for n in range(len(texts))],
        "quality": [100.0 - n for n in range(len(texts))],
    }
    pq.write_table(pa.table(columns), folder / "docs.parquet")
    values = {
        "input": {"path": str(folder / "docs.parquet"), "id": "id", "source": "source"},
        "output": str(folder / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {
            "best": {"scorer": "quality", "keep": {"documents": 20}},
            "random": {"scorer": "random", "keep": {"tokens_of": "best"}},
        },
    }
    config = write_config(folder / "conf.yaml", values)
    run_all(spark, load_config(config))
    return config


@pytest.fixture(scope="module")
def figures(hostile: Path, spark: Any) -> PageFigures:
    """The figures of these documents."""
    return gather(RunContext(spark, load_config(hostile)))


@pytest.fixture(scope="module")
def page(hostile: Path, figures: PageFigures, spark: Any) -> Path:
    """The page of these documents, where no other test changes it."""
    file = hostile.parent / "page.html"
    file.write_bytes(render.render(figures))
    return file


class Elements(HTMLParser):
    """Tags with their attributes, ids, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_texts_are_escaped_cut_and_visible_and_nothing_is_loaded(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    elements = Elements(html)
    tags = {tag for tag, _ in elements.tags}
    assert not tags & {"script", "img", "iframe", "object", "b"}
    assert not [attributes for _, attributes in elements.tags if any(name.startswith("on") for name in attributes)]
    loaded = [
        v for _, attributes in elements.tags for name, v in attributes.items() if name in ("src", "href", "srcset")
    ]
    assert all(value.startswith(("#", "data:,")) for value in loaded if value)
    assert "@import" not in html
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not set(html) & {"\x1b", "\x00", "\u202e"}
    text = "".join(elements.texts)
    assert "<img src=x onerror=alert(2)>" in text  # a source, as text
    assert SCRIPT in text
    assert "[U+202E]مرحبا بالعالم" in text
    assert "[U+001B][31mred[U+001B][0m [U+0000]nul" in text
    assert "$x^2$ \\frac{a}{b} {{ 7 * 7 }} {% raw %}" in text
    assert 0 < max(len(part) for part in text.split("\n") if part.startswith("long long")) <= 2_000 * 5
    assert "The text goes on; this is its beginning." in text
    documents = [attributes for tag, attributes in elements.tags if attributes.get("class") == "text"]
    assert len(documents) >= 40
    assert all(attributes.get("dir") == "auto" for attributes in documents)
    assert len(html.encode()) < MAX_BYTES


def test_every_section_is_there_and_an_empty_one_names_a_command(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    headings = re.findall(r'<h2 id="([\w-]+)-heading"><span class="number">(\d+)</span>([^<]+)</h2>', html)
    assert headings == [(heading.name, str(n), heading.title) for n, heading in enumerate(HEADINGS, start=1)]
    benchmarks = html[html.index('<section id="benchmarks"') : html.index('<section id="lengths"')]
    assert "<code>betr-spark rank</code>" in benchmarks  # nothing was ranked
    assert "<table" not in benchmarks
    assert html.count('type="radio"') == 2


def test_numbers_that_do_not_exist_are_not_compared() -> None:
    environment = Environment(loader=PackageLoader("betr_spark.report.page"))
    environment.filters |= dict.fromkeys(("code", "count", "share", "visible"), str)  # of other macros
    parts: Any = environment.get_template("parts.html").module
    assert [parts.stability(psi) for psi in (math.nan, 0.0, 0.2, 0.3)] == [
        "not comparable", "stable", "changed", "changed much",
    ]  # fmt: skip
    assert [parts.decimals(value, "%+.3f") for value in (math.nan, 1.0)] == ["–", "+1.000"]


def test_the_command_prints_a_summary_and_the_path(
    hostile: Path, run_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = hostile.parent / "out/report.html"
    code, out, _ = run_command("report", "--config", str(hostile), "--no-page", "--json")
    assert (code, json.loads(out)["page"], page.exists()) == (0, None, False)
    code, out, _ = run_command("report", "--config", str(hostile), "--open", "--json")
    document = json.loads(out)
    assert (code, document["page"], opened) == (0, f"file:{page}", [page.as_uri()])
    assert page.stat().st_size < MAX_BYTES
    best, control = document["sections"]["selections"]
    assert (best["verdict"]["documents"], best["scores"]["histogram"]["lowest_selected"]) == (20, 81.0)
    assert best["readings"]["best"][0]["text"] == SCRIPT
    assert control["funnel"]["gaps"] == []
    code, _, errors = run_command("report", "--config", str(hostile), "--open", "--no-page")
    assert (code, errors) == (2, ["error: --open: there is no page with --no-page or --as-of"])
    page.unlink()
    monkeypatch.setattr("betr_spark.storage.hadoop_files.qualified", lambda *_: "s3a://bucket/report.html")
    code, _, errors = run_command("report", "--config", str(hostile), "--open")
    assert (code, len(errors), page.exists()) == (2, 1, False)
    assert errors[0].startswith("error: --open: s3a://bucket/report.html is not on this machine")


def test_a_selection_that_does_not_exist_is_named_with_its_command(
    hostile: Path, run_command: Any, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(hostile.parent / "out", output)
    shutil.rmtree(output / "selected/random")
    code, out, _ = run_command("report", "--config", str(hostile), "--set", f"output={output}", "--no-page")
    assert code == 0
    assert "random: not selected yet; run `betr-spark select`" in out
    gone = ("--set", "input.path=/nowhere", "--no-page", "--json")
    code, out, _ = run_command("report", "--config", str(hostile), "--set", f"output={output}", *gone)
    assert code == 0
    (why,) = [stage["why"] for stage in json.loads(out)["out_of_date"]]
    assert why.startswith("it cannot be checked: ")
    assert "/nowhere" in why
    code, out, _ = run_command("report", "--config", str(hostile), "--set", f"output={output}")
    assert code == 0
    assert "best: 20 documents" in out
    assert "random: not selected yet; run `betr-spark select`" in out
    assert out.splitlines()[-1] == f"page: file:{output / 'report.html'}"
    html = (output / "report.html").read_text(encoding="utf-8")
    verdict = html[html.index('<section id="verdict"') : html.index('<section id="funnel"')]
    assert "There is no table of this selection yet; <code>betr-spark select</code> writes it." in verdict
    assert "out of date" in out


def test_a_page_that_cannot_be_written_is_one_line(hostile: Path, run_command: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, errors = run_command("report", "--config", str(hostile), "--set", f"output={tmp_path / 'file'}")
    assert code == 2
    assert len(errors) == 1
    assert errors[0].endswith("is a file; a folder is required; use --no-page to print the summary alone")


def test_a_page_that_would_be_too_large_has_shorter_texts_then_fewer_selections(
    hostile: Path, figures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = len(render.render(figures))
    monkeypatch.setattr(render, "MAX_BYTES", whole - 1)
    shorter = render.render(figures).decode()
    assert len(shorter.encode()) < whole
    assert shorter.count('type="radio"') == 2
    monkeypatch.setattr(render, "MAX_BYTES", len(shorter.encode()) - 1)
    fewer = render.render(figures).decode()
    assert fewer.count('type="radio"') == 1
    assert "1 more selections are not on this page" in fewer


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no `chromium` and `chromedriver` on PATH (Debian: apt install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_chromium_shows_the_page_without_a_network(browser: Any, page: Path, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 1000}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    shown = browser.execute_script(
        "return [...document.querySelectorAll('h2')].filter(h => h.offsetHeight).map(h => h.id)"
    )
    assert shown == [f"{heading.name}-heading" for heading in HEADINGS]
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour))) > 380) == (scheme == "light")
    for number in (0, 1):  # each selection, with everything unfolded
        browser.execute_script(
            "document.getElementById('selection-' + arguments[0]).click();"
            "document.querySelectorAll('details').forEach(d => d.open = true)", number,
        )  # fmt: skip
        visible = browser.execute_script(
            "return [...document.querySelectorAll('.of')].filter(e => e.offsetHeight).map(e => e.className)"
        )
        assert set(visible) == {f"of of-{number}"}
        scroll, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert scroll <= inner == width
    assert browser.get_log("browser") == []
