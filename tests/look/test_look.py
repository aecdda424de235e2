"""The page on a finished run: filters, pages of documents, marks, exports, and who may use it."""

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import write_config
from deltalake import DeltaTable

from betr_spark.config import Config, load_config
from betr_spark.errors import SetupError
from betr_spark.look.marks import Marks
from betr_spark.look.security import Secrets
from betr_spark.look.server import bind
from betr_spark.look.site import create_app
from betr_spark.look.tables import Tables
from betr_spark.pipeline.stage import RunContext
from betr_spark.training.kinds import kind_of

KEYS = Secrets("the-token", "the-form-token")
ODD = {
    "script": "<script>alert(1)</script><style>*{display:none}</style> {{ 7 * 7 }}",
    "right to left": "مرحبا بالعالم",
    "escapes": "a\x1b[31mred \u202eevil",
    "megabyte": "word " * 200_000 + "the end",
    "no source": "plain",
    "line\nbreak\0": "an id with a line break",
}


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def client_of(tables: Tables, marks: Path) -> Any:
    client = create_app(tables, Marks(marks), KEYS).test_client()
    assert client.get("/?token=the-token").status_code == 303  # sets the cookie
    return client


@pytest.fixture(scope="module")
def tables(spark: Any, finished: Path) -> Tables:
    return Tables(spark, load_config(finished / "conf.yaml"))


@pytest.fixture
def client(tables: Tables, tmp_path: Path) -> Any:
    return client_of(tables, tmp_path / "marks.jsonl")


@pytest.fixture(scope="module")
def odd(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """An output with one selection, of texts that a page could stumble over."""
    output = tmp_path_factory.mktemp("odd")
    selected = [
        (rank, doc_id, text, None if doc_id == "no source" else "<b>web</b>", 0.5, 0.0, 3)
        for rank, (doc_id, text) in enumerate(ODD.items(), start=1)
    ]
    schema = "rank bigint, doc_id string, text string, source string, score double, logit float, n_tokens int"
    spark.createDataFrame(selected, schema).coalesce(1).write.format("delta").save(f"{output}/selected/odd")
    selections = {"odd": {"scorer": "random", "keep": {"documents": 9}}}
    values = {"input": {"path": "in", "id": "id"}, "output": str(output), "scorers": {}, "selections": selections}
    return Tables(spark, Config.model_validate(values))


def ids(page: Any) -> list[str]:
    """The documents of a list, in order."""
    assert page.status_code == 200, page.text
    return [json.loads(html.unescape(found)) for found in re.findall(r'name="doc_id" value="(.*?)"', page.text)]


def scores(page: Any) -> list[float]:
    return [float(found) for found in re.findall(r"score <b>(.*?)</b>", page.text)]


def test_a_selection_is_read_in_pages_in_order_of_rank(client: Any, finished: Path) -> None:
    ranked = [row["doc_id"] for row in sorted(rows(finished / "out/selected/betr-30"), key=lambda row: row["rank"])]
    first = client.get("/documents?view=selected/betr-30")
    assert ids(first) == ranked[:25]
    assert f"1 to 25 of {len(ranked)} documents" in first.text
    link = re.search(r'href="([^"]*)">next page', first.text)
    assert link
    assert ids(client.get(html.unescape(link[1]))) == ranked[25:50]
    assert ids(client.get("/documents?view=selected/betr-30&order=worst")) == ranked[:-26:-1]
    drawn = ids(client.get("/documents?view=selected/betr-30&order=random"))
    assert len(set(drawn)) == 25
    assert drawn != ranked[:25]


def test_filters_agree_with_the_tables(client: Any, finished: Path) -> None:
    selected = rows(finished / "out/selected/betr-30")
    sample = {row["doc_id"]: row for row in rows(finished / "out/_sample")}
    ranked = {row["doc_id"]: row for row in rows(finished / "out/ranked_sample")}
    logits = {row["doc_id"]: row["logit_betr"] for row in rows(finished / "out/features")}
    in_selection = {row["doc_id"] for row in selected}

    def count(arguments: str) -> int:
        page = client.get(f"/documents?{arguments}")
        assert page.status_code == 200
        found = re.search(r" of (\d+) documents", page.text)
        return int(found[1]) if found else 0

    view = "view=selected/betr-30"
    assert count(f"{view}&source=kitchen") == sum(row["source"] == "kitchen" for row in selected) > 0
    middle = sorted(row["score"] for row in selected)[len(selected) // 2]
    above = client.get(f"/documents?{view}&low={middle:.17g}&order=worst")
    assert min(scores(above)) == pytest.approx(middle, abs=1e-3)
    assert count(f"{view}&low={middle:.17g}") == sum(row["score"] >= middle for row in selected) < len(selected)
    assert count(f"{view}&high={middle:.17g}") == sum(row["score"] <= middle for row in selected)
    assert count(f"{view}&text=GARLIC%20") == sum("garlic " in row["text"].lower() for row in selected) > 0
    of_sailing = [doc_id for doc_id in ranked if ranked[doc_id]["best_benchmark"] == "sailing"]
    assert count("view=sample&benchmark=sailing") == len(of_sailing) > 0
    assert count(f"{view}&benchmark=sailing") == len(in_selection & set(of_sailing)) > 0
    assert count("view=sample&label=positive") == sum(row["label"] == 1 for row in ranked.values()) > 0
    assert count("view=sample&label=neither") == sum(row["label"] is None for row in ranked.values())
    assert count("view=sample&kept=%2Bbetr-30") == len(in_selection & set(sample)) > 0
    rejected = set(sample) - in_selection
    assert count("view=sample&kept=-betr-30&source=kitchen") == sum(sample[i]["source"] == "kitchen" for i in rejected)
    order = sorted((i for i in sample if logits.get(i) is not None), key=lambda i: -logits[i])
    assert [logits[i] for i in ids(client.get("/documents?view=sample&scorer=betr"))] == [logits[i] for i in order[:25]]
    best = min(ranked.values(), key=lambda row: (-row["target_score"], -row["best_cosine"]))
    assert ranked[ids(client.get("/documents?view=sample"))[0]]["target_score"] == best["target_score"]
    assert count("view=sample&text=no%20such%20text") == 0


def test_a_document_shows_its_scores_and_what_became_of_it(client: Any, finished: Path) -> None:
    features = {row["doc_id"]: row for row in rows(finished / "out/features")}
    sample = {row["doc_id"] for row in rows(finished / "out/_sample")}
    removed = next(row for row in rows(finished / "out/duplicates") if row["doc_id"] in sample)
    page = client.get(f"/document?view=sample&id={removed['doc_id']}").text
    assert f"removed: {removed['kind']} duplicate of {removed['kept_doc_id']}" in page
    logit = features[removed["doc_id"]]["logit_betr"]
    assert re.search(rf"<td>betr</td><td>[\d.e-]+</td><td>{re.escape(f'{logit:.4g}')}</td>", page)
    best = next(row for row in rows(finished / "out/selected/best-50") if row["rank"] == 7)
    page = client.get(f"/document?view=selected/best-50&id={best['doc_id']}&n=6").text
    assert "<th>best-50</th><td>rank 7</td>" in page
    assert "previous document" in page
    assert "n=7" in re.search(r'href="([^"]*)">next document', page)[1]  # type: ignore[index]
    assert client.get("/document?view=sample&id=nobody").status_code == 404


def marked(client: Any, doc_id: str, mark: str, back: str = "view=selected/best-50&page=1") -> Any:
    form = {"form_token": KEYS.form, "doc_id": json.dumps(doc_id), "mark": mark}
    return client.post(f"/mark?{back}", data=form)


def test_a_mark_is_stored_shown_and_a_filter(client: Any, tables: Tables, tmp_path: Path) -> None:
    first, second = ids(client.get("/documents?view=selected/best-50"))[:2]
    answer = marked(client, first, "good", "view=selected/best-50&page=1&n=0")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/documents?view=selected/best-50&page=1#d0")
    marked(client, second, "bad")
    again = client_of(tables, tmp_path / "marks.jsonl")  # after a restart
    page = again.get("/documents?view=selected/best-50")
    assert "1 good, 1 bad" in page.text
    assert '<article id="d0" class="good">' in page.text
    assert ids(again.get("/documents?view=selected/best-50&mark=good")) == [first]
    sampled = next(doc_id for doc_id in ids(again.get("/documents?view=sample")) if doc_id not in (first, second))
    marked(again, sampled, "good", "view=sample")
    assert {sampled} <= set(ids(again.get("/documents?view=sample&mark=good"))) <= {first, sampled}
    marked(again, sampled, "none", "view=sample")
    assert ids(again.get("/documents?view=selected/best-50&mark=none"))[0] not in (first, second)
    marked(again, first, "none", "view=selected/best-50&n=0&part=1&from=document")
    assert Marks(tmp_path / "marks.jsonl").all() == {second: "bad"}


def test_a_page_that_is_shown_again_runs_no_query(client: Any, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    page = client.get("/documents?view=selected/best-50")
    monkeypatch.setattr(tables, "hits", None)
    monkeypatch.setattr(tables, "excerpts", None)
    first = ids(page)[0]
    answer = marked(client, first, "good")
    assert ids(client.get(answer.headers["Location"])) == ids(page)


def test_marks_are_trained_on_as_external_scores_and_as_positives(
    run_command: Any, copied: Path, client: Any, tables: Tables, tmp_path: Path
) -> None:
    sampled = ids(client.get("/documents?view=sample&source=kitchen"))
    others = ids(client.get("/documents?view=sample&source=orchard"))
    for doc_id in sampled[:12]:
        marked(client, doc_id, "good")
    for doc_id in others[:9]:
        marked(client, doc_id, "bad")
    marked(client, "gone", "good")
    file = tmp_path / "marks.jsonl"
    entries = {}
    for kind in ("teacher", "classifier"):
        code, out, _ = run_command("look", "--config", str(copied), "--marks", str(file), "--export", kind, "--json")
        exported = json.loads(out)
        assert (code, exported["left_out"]) == (0, 1)
        entries[f"by_{kind}"] = yaml.safe_load(exported["scorer"])
        shown = client.post("/export", data={"form_token": KEYS.form, "kind": kind})
        assert html.escape(exported["scorer"]) in shown.text.replace("&#34;", "&quot;")
    scored = pq.read_table(entries["by_teacher"]["path"]).to_pylist()
    assert scored == [
        {"doc_id": i, "score": float(i in sampled)} for i in sorted([*sampled[:12], *others[:9]])
    ]  # "gone" is not in the sample
    texts = {row["doc_id"]: row["text"] for row in rows(copied.parent / "out/_sample")}
    lines = [json.loads(line) for line in Path(entries["by_classifier"]["positives"]["path"]).read_text().splitlines()]
    assert lines == [{"doc_id": i, "text": texts[i]} for i in sorted(sampled[:12])]
    values = yaml.safe_load(copied.read_text())
    config = write_config(tmp_path / "marked.yaml", {**values, "scorers": {**values["scorers"], **entries}})
    code, out, errors = run_command("check", "--config", str(config))
    assert (code, errors) == (0, [])
    context = RunContext(tables._spark, load_config(config))
    sample = context.spark.read.format("delta").load(str(copied.parent / "out/_sample"))
    labels = {}
    for name in entries:
        labelled = kind_of(context.config, name)._labelled(context.spark, sample).collect()  # type: ignore[attr-defined]
        labels[name] = {(row["text"], row["label"]) for row in labelled}
    assert labels["by_teacher"] == {(texts[i], 1) for i in sampled[:12]} | {(texts[i], 0) for i in others[:9]}
    assert {text for text, label in labels["by_classifier"] if label == 1} == {texts[i] for i in sampled[:12]}


def test_an_export_without_enough_marks_is_one_line(run_command: Any, copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    for kind, line in (("teacher", "0 good and 0 bad documents of the sample"), ("classifier", "no good document")):
        code, _, errors = run_command("look", "--config", str(copied), "--marks", str(file), "--export", kind)
        assert (code, len(errors)) == (2, 1)
        assert line in errors[0]
    code, _, errors = run_command("look", "--config", str(copied), "--export", "poems")
    assert (code, errors) == (2, ["error: --export: 'poems' is not one of: teacher, classifier"])
    assert not list(tmp_path.glob("*few*"))


def test_texts_are_shown_as_texts(odd: Tables, tmp_path: Path) -> None:
    client = client_of(odd, tmp_path / "marks.jsonl")
    page = client.get("/documents")
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;style&gt;" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "<b>web</b>" not in page.text
    assert '<pre class="text excerpt" dir="auto" tabindex="0">\nمرحبا' in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert '<span class="character">[U+202E]</span>evil' in page.text
    assert len(page.text) < 60_000  # the megabyte is cut
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert re.search(r"style-src 'nonce-([\w-]+)'", page.headers["Content-Security-Policy"])[1] in page.text  # type: ignore[index]
    found = client.get("/documents?text=%3CSCRIPT")
    assert ids(found) == ["script"]
    assert "<mark>&lt;script</mark>&gt;alert" in found.text
    end = client.get("/documents?text=the%20end")  # the excerpt begins before the match
    assert "<mark>the end</mark>" in end.text


def test_a_long_text_is_read_in_parts(odd: Tables, tmp_path: Path) -> None:
    client = client_of(odd, tmp_path / "marks.jsonl")
    parts = [client.get(f"/document?id=megabyte&part={part}").text for part in (1, 6)]
    assert [part.count("word ") for part in parts] == [40_000, 0]
    assert "the end</pre>" in parts[1]
    assert "part 6 of 6" in parts[1]
    assert "table features does not have this document" in parts[0]


def test_the_tables_stay_as_they_were(spark: Any, odd: Tables, tmp_path: Path) -> None:
    output = tmp_path / "odd"
    shutil.copytree(odd.config.output, output)
    client = client_of(Tables(spark, odd.config.model_copy(update={"output": str(output)})), tmp_path / "marks.jsonl")
    table = spark.read.format("delta").load(f"{output}/selected/odd")
    table.where("rank = 5").write.format("delta").mode("overwrite").save(f"{output}/selected/odd")
    assert ids(client.get("/documents")) == list(ODD)
    restarted = Tables(spark, odd.config.model_copy(update={"output": str(output)}))
    assert ids(client_of(restarted, tmp_path / "marks.jsonl").get("/documents")) == ["no source"]


def test_an_id_with_a_line_break_is_marked(odd: Tables, tmp_path: Path) -> None:
    client = client_of(odd, tmp_path / "marks.jsonl")
    assert ids(client.get("/documents")) == list(ODD)
    marked(client, "line\nbreak\0", "good", "")
    assert Marks(tmp_path / "marks.jsonl").all() == {"line\nbreak\0": "good"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("view=selected/none", "view: &#39;selected/none&#39; is not one of: selected/odd"),
        ("low=nan", "low: &#39;nan&#39; is not a number"),
        ("scorer=x", "scorer: &#39;x&#39; is not one of"),
        ("page=0", "page: &#39;0&#39; is not a whole number from 1 to 40"),
        ("kept=%2Bodd", "kept: &#39;+odd&#39; is not one of: (none)"),
        (f"text={'x' * 201}", "text: at most 200 characters"),
    ],
)
def test_an_address_that_is_wrong_is_one_sentence(odd: Tables, tmp_path: Path, arguments: str, line: str) -> None:
    page = client_of(odd, tmp_path / "marks.jsonl").get(f"/documents?{arguments}")
    assert page.status_code == 400
    assert line in page.text


def test_only_who_has_the_address_may_read_and_mark(odd: Tables, tmp_path: Path) -> None:
    file = tmp_path / "marks.jsonl"
    app = create_app(odd, Marks(file), KEYS)
    stranger, client = app.test_client(), app.test_client()
    for path in ("/", "/documents", "/document?id=script", "/marks", "/nothing", "/?token=other", "/documents?token="):
        refused = stranger.get(path)
        assert refused.status_code == 403, path
        assert "alert" not in refused.text
        assert "odd" not in refused.text
    answer = client.get("/documents?token=the-token&order=worst")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/documents?order=worst")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get("/documents").status_code == 200
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", "[::1", ""):
        assert client.get("/documents", headers={"Host": host}).status_code == 403, host
        assert app.test_client().get("/?token=the-token", headers={"Host": host}).status_code == 403, host
    assert app.test_client().get("/?token=the-token", headers={"Host": "127.0.0.1:8123"}).status_code == 303  # a tunnel
    form = {"doc_id": '"script"', "mark": "good"}
    for token in ({}, {"form_token": ""}, {"form_token": "the-token"}):
        assert client.post("/mark", data={**form, **token}).status_code == 403
        assert client.post("/export", data={"kind": "classifier", **token}).status_code == 403
    assert stranger.post("/mark", data={**form, "form_token": KEYS.form}).status_code == 403
    assert client.get("/mark").status_code == 405
    assert list(tmp_path.iterdir()) == []
    assert client.post("/mark", data={**form, "form_token": KEYS.form}).status_code == 303
    assert file.exists()


def test_the_server_listens_on_this_machine_only(odd: Tables, tmp_path: Path) -> None:
    server = bind(create_app(odd, Marks(tmp_path / "marks.jsonl"), KEYS), 0)
    try:
        assert server.socket.getsockname() == ("127.0.0.1", server.port)
        with socket.create_connection(("127.0.0.1", server.port), timeout=5):
            pass
        with pytest.raises(ConnectionRefusedError):  # an address of this machine that 0.0.0.0 would include
            socket.create_connection(("127.0.0.2", server.port), timeout=5)
        with pytest.raises(SetupError, match=f"--port: {server.port} cannot be used"):
            bind(create_app(odd, Marks(tmp_path / "marks.jsonl"), KEYS), server.port)
    finally:
        server.server_close()


@pytest.fixture
def process(finished: Path, small_spark: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    shutil.copy(finished / "conf.yaml", tmp_path / "mine.yaml")
    command = [sys.executable, "-m", "betr_spark", "look", "--config", "mine.yaml", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=small_spark, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


def test_the_command_serves_until_ctrl_c_and_takes_no_lease(
    process: subprocess.Popen[str], finished: Path, tmp_path: Path
) -> None:
    before = sorted((finished / "out/_lease").iterdir())
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    started = json.loads("".join(lines))
    assert (started["marks"], started["good"]) == ("mine.marks.jsonl", 0)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(started["address"], timeout=120) as page:
        assert "selected/best-50" in page.read().decode()
        assert page.url.endswith("/documents")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert sorted((finished / "out/_lease").iterdir()) == before
    assert not (tmp_path / "mine.marks.jsonl").exists()
