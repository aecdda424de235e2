"""Presets: named settings below the user's own, merged before the configuration is validated."""

import difflib
from collections.abc import Mapping
from typing import Any

# "Language Models Improve When Pretraining Data Matches Target Tasks" (arXiv 2507.12466). The settings of fastText that have no
# key (ws 10, minCount 5, wordNgrams 2, 2,000,000 buckets) are in training/fasttext.py.
_PAPER: dict[str, Any] = {
    "sample": {"documents": 10_000_000},
    "encoder": {
        "model": "Snowflake/snowflake-arctic-embed-l-v2.0", "max_tokens": 8192, "long_documents": "truncate",
    },
    "labels": {"positive_fraction": 0.1, "aggregate": "best_rank", "granularity": "example"},
}  # fmt: skip
_PAPER_TARGET = {"balance": "equal"}
_PAPER_FASTTEXT = {"dim": 128, "lr": 0.03, "epochs": 5}
_PAPER_SCORERS: dict[str, dict[str, Any]] = {  # by kind
    "betr": {"model": "fasttext", **_PAPER_FASTTEXT},
    "classifier": {"recipe": "paper", **_PAPER_FASTTEXT},
    "teacher": _PAPER_FASTTEXT,
}
PRESETS = ("paper",)


def known_preset(name: object) -> object:
    """Return the name itself.

    Raises:
        ValueError: there is no such preset.
    """
    if name is None or name in PRESETS:
        return name
    close = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'?" if close else f"known presets are {', '.join(PRESETS)}"
    raise ValueError(f"unknown preset '{name!s:.80}'; {hint}")


def with_preset(values: Any) -> Any:
    """Put the settings of the preset that a configuration names below its own; one without a known preset stays as it is.

    A preset's settings of scorers and targets apply to each scorer of their kind and to each target. Of a `betr` scorer with
    another `model`, the preset's `lr` and `epochs` do not apply: only fastText has them.

    >>> merged = with_preset({"preset": "paper", "encoder": {"model": "minilm"}})
    >>> merged["encoder"]["model"], merged["encoder"]["max_tokens"], merged["sample"]
    ('minilm', 8192, {'documents': 10000000})
    >>> merged["scorers"]["betr"]["lr"]
    0.03
    """
    if not isinstance(values, Mapping) or values.get("preset") != "paper":
        return values
    scorers, targets = values.get("scorers", {"betr": {"kind": "betr"}}), values.get("targets", {})
    if isinstance(scorers, Mapping):
        scorers = {name: _scorer(scorer) for name, scorer in scorers.items()}
    if isinstance(targets, Mapping):
        targets = {name: _merged(_PAPER_TARGET, target) for name, target in targets.items()}
    return {**_merged(_PAPER, values), "scorers": scorers, "targets": targets}


def _scorer(scorer: Any) -> Any:
    if not isinstance(scorer, Mapping):
        return scorer
    preset = _PAPER_SCORERS.get(str(scorer.get("kind", "betr")), {})
    if scorer.get("model", "fasttext") != "fasttext":
        preset = {name: value for name, value in preset.items() if name not in ("lr", "epochs")}
    return _merged(preset, scorer)


def _merged(preset: Mapping[str, Any], values: Any) -> Any:
    """The preset's values, replaced by those that are given, key by key; what is no mapping is left to the validation."""
    if not isinstance(values, Mapping):
        return values
    merged = {**preset, **values}
    return {
        name: _merged(preset[name], value) if isinstance(preset.get(name), Mapping) else value
        for name, value in merged.items()
    }
