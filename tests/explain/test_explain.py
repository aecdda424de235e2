"""`explain` on a finished run: every kind of document, against what the tables say."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from deltalake import DeltaTable, write_deltalake

from betr_spark.scoring.contributions import LogitExplainer
from betr_spark.scoring.ngram_table import table_of

QUARANTINED = {"doc_id": "q1", "reason": "text_too_long", "detail": "9 bytes", "row": '{"id": "q1"}', "input_file": "f"}


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def order(row: dict[str, Any]) -> tuple[float, int, str]:
    """The ranking order, in plain Python."""
    unsigned = xxhash.xxh64_intdigest(row["doc_id"].encode(), 42)
    return -row["logit_betr"], unsigned - (unsigned >> 63 << 64), row["doc_id"]


@pytest.fixture(scope="module")
def output(finished: Path) -> Path:
    return finished / "out"


@pytest.fixture(scope="module")
def ranked(output: Path) -> list[dict[str, Any]]:
    """All documents with a logit, the best first."""
    return sorted((row for row in rows(output / "features") if row["logit_betr"] is not None), key=order)


@pytest.fixture(scope="module")
def survivors(output: Path, ranked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    removed = {row["doc_id"] for row in rows(output / "duplicates")}
    return [row for row in ranked if row["doc_id"] not in removed]


def explain(run_command: Any, config: Path, *ids: str) -> dict[str, Any]:
    code, out, errors = run_command("explain", "--json", "--config", str(config), *[f"--doc={doc}" for doc in ids])
    assert (code, errors) == (0, [])
    return {document["doc_id"]: document for document in json.loads(out)["documents"]}


def selections(document: dict[str, Any]) -> dict[str, Any]:
    return {outcome["selection"]: outcome for outcome in document["selections"]}


def test_selected_rejected_and_duplicate_documents_have_what_the_tables_say(
    run_command: Any, finished: Path, output: Path, ranked: list[Any], survivors: list[Any], corpus: list[Any]
) -> None:
    duplicate = next(row for row in rows(output / "duplicates") if row["kind"] == "near")
    best, middle, last = survivors[0], survivors[70], survivors[-1]
    ids = [row["doc_id"] for row in (best, middle, last, duplicate)]
    found = explain(run_command, finished / "conf.yaml", *ids, "o0000")
    assert list(found) == [*ids, "o0000"]
    texts = {row["id"]: row["text"] for row in corpus}
    of_features = {row["doc_id"]: row for row in rows(output / "features")}
    sample = {row["doc_id"]: row for row in rows(output / "ranked_sample")}
    for doc in ids:
        document, row = found[doc], of_features[doc]
        (scorer,) = document["scorers"]
        position = [each["doc_id"] for each in ranked].index(doc) + 1
        assert (scorer["position"], scorer["n_documents"]) == (position, len(ranked))
        assert scorer["percentile"] == pytest.approx(100 * (len(ranked) - position + 1) / len(ranked))
        assert scorer["logit"] == row["logit_betr"]
        assert scorer["score"] == pytest.approx(1 / (1 + math.exp(-row["logit_betr"])))
        assert document["features"]["content_hash"] == row["content_hash"].hex()
        assert document["features"]["n_words"] == row["n_words"]
        assert document["features"]["input_file"] == row["input_file"]
        assert document["text_start"] == texts[doc][:200]
        assert (document["sample"] is not None) == (doc in sample)
        if doc in sample:
            assert document["sample"]["best_rank"] == sample[doc]["best_rank"]
            assert document["sample"]["example_text"].split()
        parts = [part["value"] for part in scorer["raised"]]
        assert parts == sorted(parts, reverse=True)
        assert len(parts) <= 10
        assert min(parts, default=1) > 0 > max((part["value"] for part in scorer["lowered"]), default=-1)
        lowered = sum(part["value"] for part in scorer["lowered"])
        assert scorer["intercept"] + sum(parts) + lowered + scorer["others"] == pytest.approx(scorer["logit"], abs=1e-5)
    kept = {name: {r["doc_id"]: r for r in rows(output / f"selected/{name}")} for name in ("best-50", "betr-30")}
    assert selections(found[ids[0]])["best-50"]["rows"] == [{"rank": 1}]
    for name, by_id in kept.items():
        for place, row in ((0, best), (70, middle), (len(survivors) - 1, last)):
            outcome = selections(found[row["doc_id"]])[name]
            assert outcome["status"] == ("selected" if row["doc_id"] in by_id else "below_cut")
            if row["doc_id"] in by_id:
                assert outcome["rows"] == [{"rank": place + 1}]
                continue
            missed, between = outcome["missed"], survivors[len(by_id) : place]
            assert (missed["position"], missed["n_eligible"]) == (place + 1, len(survivors))
            assert missed["last_kept"] == survivors[len(by_id) - 1]["doc_id"]
            assert missed["by_logit"] == survivors[len(by_id) - 1]["logit_betr"] - row["logit_betr"]
            assert missed["by_documents"] == len(between)
            assert missed["by_tokens"] == sum(each["n_tokens"] for each in between)
            assert f"position {place + 1:,} of {len(survivors):,}" in outcome["why"]
    document = found[duplicate["doc_id"]]
    assert document["duplicate_of"] == {
        **{key: value for key, value in duplicate.items() if key not in ("doc_id", "similarity")},
        "similarity": pytest.approx(duplicate["similarity"]),
    }
    outcome = selections(document)["best-50"]
    assert outcome["status"] == "duplicate"
    rank = kept["best-50"].get(duplicate["kept_doc_id"], {}).get("rank")
    which = f"selected with rank {rank}" if rank else "not selected either"
    assert outcome["why"].endswith(f"of '{duplicate['kept_doc_id']}', which is {which}")
    keeper = explain(run_command, finished / "conf.yaml", duplicate["kept_doc_id"])[duplicate["kept_doc_id"]]
    same = [row for row in rows(output / "duplicates") if row["kept_doc_id"] == duplicate["kept_doc_id"]]
    assert keeper["kept_for"]["n_removed"] == len(same)
    assert keeper["kept_for"]["component_size"] == duplicate["component_size"]
    empty = found["o0000"]
    assert {outcome["status"] for outcome in empty["selections"]} <= {"no_score", "duplicate"}
    assert empty["scorers"][0]["logit"] is None


def test_sums_of_all_contributions_are_the_logits(output: Path, ranked: list[Any], corpus: list[Any]) -> None:
    (file,) = (output / "scorers/betr").glob("tables-*.npz")
    with np.load(file) as arrays:
        explainer = LogitExplainer(table_of({name: arrays[name] for name in arrays.files}))
    texts = {row["id"]: row["text"] for row in corpus}
    for row in ranked:
        explanation = explainer.explain(texts[row["doc_id"]])
        assert explanation.logit == pytest.approx(row["logit_betr"], abs=1e-5)


def test_quarantined_and_unknown_documents(run_command: Any, copied: Path, survivors: list[Any]) -> None:
    table = pa.Table.from_pylist([QUARANTINED])
    write_deltalake(str(copied.parent / "out/quarantine"), table, mode="append")
    known = survivors[0]["doc_id"]
    arguments = ("explain", "--config", str(copied), "--doc", "q1", "--doc", "no such", "--doc", known, "--doc", "x\ny")
    code, out, errors = run_command(*arguments)
    assert code == 2
    where = f"not in the tables of {copied.parent / 'out'}"
    assert errors == [f"error: --doc: 'no such': unknown id, {where}", f"error: --doc: 'x\\ny': unknown id, {where}"]
    assert "quarantined:  text_too_long: 9 bytes; f" in out
    assert "selection best-50: quarantined: text_too_long: 9 bytes" in out
    assert f"document {known}" in out
    code, out, _ = run_command(*arguments, "--json")
    document = json.loads(out)
    assert (code, document["exit_code"], len(document["errors"])) == (2, 2, 2)
    assert document["unknown"] == ["no such", "x\ny"]
    assert [each["doc_id"] for each in document["documents"]] == ["q1", known]
    assert document["documents"][0]["features"] is None


def test_lines_show_ngrams_and_what_does_not_fit(run_command: Any, copied: Path, survivors: list[Any]) -> None:
    """The weights of a scorer that was trained again do not add up to the logit that `features` has."""
    last, doc = survivors[-1], survivors[5]["doc_id"]
    table = DeltaTable(str(copied.parent / "out/features"))
    table.update(updates={"logit_betr": "CAST(0.125 AS FLOAT)"}, predicate=f"doc_id = '{doc}'")
    code, out, _ = run_command("explain", "--config", str(copied), "--doc", last["doc_id"], doc)
    assert code == 0
    assert f"scorer betr (betr): logit {last['logit_betr']:.4f}, " in out
    assert out.count("raised by (times in the text)") == 1
    assert "scorer betr (betr): logit 0.1250, " in out
    assert "the scorer was trained again after `features` ran; run `betr-spark features`" in out
    assert "selection best-50: below_cut: outranked: position " in out
    assert "out of date: features is not up to date (" in out  # it was written by no run


def test_a_changed_input_leaves_everything_but_the_ngrams(run_command: Any, finished: Path, tmp_path: Path) -> None:
    import shutil

    import yaml

    shutil.copytree(finished / "out", tmp_path / "out")
    shutil.copytree(finished / "docs", tmp_path / "docs")
    values = yaml.safe_load((finished / "conf.yaml").read_text(encoding="utf-8"))
    values = {**values, "output": str(tmp_path / "out")}
    values["input"]["path"] = str(tmp_path / "docs")  # other files than those that were scored
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    document = explain(run_command, tmp_path / "conf.yaml", "d0001")["d0001"]
    assert document["text_start"] is None
    assert document["scorers"][0]["logit"] is not None
    assert "changed or deleted since `features` scored them" in document["notes"][0]


def test_too_many_ids_are_one_error(run_command: Any, finished: Path) -> None:
    arguments = [f"--doc=d{number}" for number in range(51)]
    code, _, errors = run_command("explain", "--config", str(finished / "conf.yaml"), *arguments)
    assert (code, len(errors)) == (2, 1)
    assert "--doc: found 51 ids, at most 50 are possible" in errors[0]
