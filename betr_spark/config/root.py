"""The configuration: YAML is read into frozen typed models. Unknown keys are errors; all problems are reported at once."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from betr_spark.config.base import Model, ScorerName, Seed
from betr_spark.config.decontaminate import DecontaminateConfig
from betr_spark.config.evaluate import EvaluateConfig
from betr_spark.config.input import InputConfig
from betr_spark.config.presets import known_preset, with_preset
from betr_spark.config.problems import validation_problems
from betr_spark.config.ranking import EncoderConfig, LabelsConfig, SampleConfig
from betr_spark.config.scorers import BetrScorer, ScorerConfig
from betr_spark.config.selections import KeepConfig, SelectionConfig
from betr_spark.config.targets import TargetConfig, check_splits
from betr_spark.config.yaml_file import overridden, read_mapping
from betr_spark.errors import ConfigError

RANDOM_SCORER, LONGEST = "random", "longest"
SelectionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class MinHashConfig(Model):
    """Shingle length in tokens and the sketch; P(candidate | J) = 1 - (1 - J^rows)^bands."""

    ngram: int = Field(default=5, ge=1, le=1_000)
    bands: int = Field(default=14, ge=1, le=1_000)
    rows: int = Field(default=8, ge=1, le=1_000)
    seed: Seed = 1


class DedupConfig(Model):
    """Near-duplicates: the minimum Jaccard similarity to the kept document, and which document is kept.

    `survivor` names the scorer whose highest-scoring document is kept (default: the first scorer), or is `longest`. Documents
    that an earlier run kept are kept again; `history: replace` recomputes every decision. A run that would remove more than
    `max_source_loss` of a source's documents, or has a component of more than `max_component`, stops and writes nothing.
    """

    similarity: float = Field(default=0.75, gt=0.0, le=1.0)
    survivor: ScorerName | None = None
    history: Literal["keep", "replace"] = "keep"
    max_source_loss: float | None = Field(default=None, ge=0.0, le=1.0)
    max_component: int | None = Field(default=None, ge=1)


def _default_scorers() -> dict[str, ScorerConfig]:
    return {"betr": BetrScorer()}


def _default_selections(data: dict[str, Any]) -> dict[str, SelectionConfig]:
    best = SelectionConfig(scorer="betr", keep=KeepConfig(token_fraction=0.10))
    return {"betr-10": best} if "betr" in data.get("scorers", ()) else {}


class Config(Model):
    """A whole run. Required: `input.path`, `output`, and `targets` if a scorer uses benchmarks.

    `preset` names published settings, which replace the defaults of keys that are not given.
    """

    preset: str | None = None
    input: InputConfig
    output: str = Field(min_length=1)
    targets: dict[SelectionName, TargetConfig] = Field(default_factory=dict)
    sample: SampleConfig = SampleConfig()
    encoder: EncoderConfig = EncoderConfig()
    labels: LabelsConfig = LabelsConfig()
    scorers: dict[ScorerName, ScorerConfig] = Field(default_factory=_default_scorers)
    minhash: MinHashConfig = MinHashConfig()
    dedup: DedupConfig = DedupConfig()
    decontaminate: DecontaminateConfig | None = None
    selections: dict[SelectionName, SelectionConfig] = Field(default_factory=_default_selections)
    evaluate: EvaluateConfig = EvaluateConfig()

    _with_preset = model_validator(mode="before")(with_preset)
    _known_preset = field_validator("preset", mode="before")(known_preset)

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        control = self.scorers.get(RANDOM_SCORER)
        if control is not None and control.kind != "random":
            raise ValueError(f"scorers.{RANDOM_SCORER}: this name is reserved for the control; choose another name")
        if not self.targets and (users := [name for name, scorer in self.scorers.items() if scorer.uses_targets()]):
            raise ValueError(
                f"targets: missing; scorers.{users[0]} requires benchmarks (use 'scorers: {{}}' only to deduplicate)"
            )
        if self.decontaminate is not None and not self.decontaminate.files(self.targets):
            raise ValueError("decontaminate: no test file; set `test` or `split` of a target, or `decontaminate.tests`")
        positives = {name: getattr(scorer, "positives", None) for name, scorer in self.scorers.items()}
        used = {f"targets.{name}": target for name, target in self.targets.items()}
        used |= {f"scorers.{name}.positives": file for name, file in positives.items() if file is not None}
        check_splits(used | {f"evaluate.off_target.{name}": file for name, file in self.evaluate.off_target.items()})
        self._benchmark_scorers_have_names()
        known = [*dict.fromkeys([*self.scorers, *self.scored()]), RANDOM_SCORER]
        for name, selection in self.selections.items():
            if selection.scorer not in known:
                raise ValueError(f"selections.{name}.scorer: '{selection.scorer}' is not one of {', '.join(known)}")
            for min_score in (keep.min_score for keep in selection.keeps()):
                if min_score is not None and selection.scorer not in self.expressions() and not 0 <= min_score <= 1:
                    raise ValueError(
                        f"selections.{name}.keep.min_score: a score in [0, 1] is required, found {min_score:g}"
                    )
            if selection.balance and not self.benchmark_scorers(selection.scorer):
                raise ValueError(
                    f"selections.{name}.balance: benchmark scorers are required; set scorers.{selection.scorer}.per_benchmark"
                )
            self._has_reference(name, selection.keep.tokens_of)
        self._combinations_have_parts()
        if LONGEST in self.scorers:
            raise ValueError(f"scorers.{LONGEST}: this name is reserved for dedup.survivor; choose another name")
        survivors = [*self.scored(), *self.combinations(), LONGEST]
        if self.dedup.survivor not in (None, *survivors):
            raise ValueError(f"dedup.survivor: '{self.dedup.survivor}' is not one of {', '.join(survivors)}")
        return self

    def _has_reference(self, name: str, reference: str | None) -> None:
        known = [other for other, selection in self.selections.items() if selection.keep.tokens_of is None]
        if reference is not None and reference not in known:
            raise ValueError(
                f"selections.{name}.keep.tokens_of: '{reference}' is not a selection with a budget of its own; "
                f"these are: {', '.join(known) or 'none'}"
            )

    def _combinations_have_parts(self) -> None:
        for name, parts in self.combinations().items():
            for part in parts:
                if part not in self.scored():
                    known = ", ".join(self.scored()) or "none"
                    raise ValueError(f"scorers.{name}.of: '{part}' is not a scorer with a logit; these are: {known}")

    def _benchmark_scorers_have_names(self) -> None:
        used_names = {*self.scorers, RANDOM_SCORER, LONGEST}
        for scorer in self.scorers:
            names = self.benchmark_scorers(scorer)
            if names and self.labels.granularity == "global":
                raise ValueError(
                    f"scorers.{scorer}.per_benchmark: labels.granularity 'global' does not distinguish benchmarks"
                )
            for benchmark, name in names.items():
                if name in used_names:
                    raise ValueError(
                        f"scorers.{scorer}.per_benchmark: the scorer of benchmark {benchmark} would be named {name}, "
                        "which is the name of another scorer; rename one of them"
                    )
                used_names.add(name)

    def trained_scorers(self) -> dict[str, ScorerConfig]:
        """Scorers that have an artifact, in the order of the file."""
        direct = self.direct()
        return {name: scorer for name, scorer in self.scorers.items() if scorer.fitted and name not in direct}

    def direct(self) -> dict[str, str | None]:
        """Scorers that are the target ranking of all documents, and their benchmark scorers, each with its benchmark."""
        if self.encoder.mode != "direct":
            return {}
        scorers: dict[str, str | None] = {}
        for name in (name for name, scorer in self.scorers.items() if scorer.uses_target_ranking):
            scorers |= {name: None, **{each: benchmark for benchmark, each in self.benchmark_scorers(name).items()}}
        return scorers

    def needs_sample(self) -> bool:
        """Whether a sample of the documents is drawn: true if a scorer is fitted."""
        return any(scorer.fitted for scorer in self.scorers.values())

    def needs_target_ranking(self) -> bool:
        """Whether the sample is embedded and ranked by the targets' examples."""
        return any(scorer.uses_target_ranking for scorer in self.scorers.values())

    def benchmark_scorers(self, scorer: str) -> dict[str, str]:
        """Names of the benchmark scorers of a scorer, by benchmark; none unless it is `per_benchmark`."""
        settings = self.scorers.get(scorer)
        if settings is None or not settings.scores_benchmarks():
            return {}
        return {benchmark: f"{scorer}_{re.sub('[^a-z0-9_]', '_', benchmark.lower())}" for benchmark in self.targets}

    def folded(self) -> list[str]:
        """All scorers that have an artifact: the trained scorers, each before its benchmark scorers."""
        return [
            name for scorer in self.trained_scorers() for name in (scorer, *self.benchmark_scorers(scorer).values())
        ]

    def expressions(self) -> dict[str, str]:
        """Columns of the input that are scorers, by the scorer's name."""
        columns = {name: scorer.input_column() for name, scorer in self.scorers.items()}
        return {name: column for name, column in columns.items() if column is not None}

    def combinations(self) -> dict[str, tuple[str, ...]]:
        """Scorers that combine others, with the names of these."""
        return {name: parts for name, scorer in self.scorers.items() if (parts := scorer.combines())}

    def combined_settings(self, scorer: str) -> dict[str, Any]:
        """Settings of a combination and of its parts, for keys of stages; empty for other scorers."""
        parts = self.combinations().get(scorer, ())
        settings = {name: self.scorers[name].model_dump() for name in (scorer, *parts) if name in self.scorers}
        return {"combination": settings} if parts else {}

    def scored(self) -> list[str]:
        """Scorers and benchmark scorers that have a logit column in `features`."""
        return [*self.folded(), *self.direct(), *self.expressions()]

    def survivor(self) -> str:
        """Name of the scorer that decides which duplicate is kept (by default the first scorer of the text), or `longest`."""
        first = [name for name in self.scorers if name in self.scored() and name not in self.expressions()]
        return self.dedup.survivor or next(iter([*first, *self.expressions()]), LONGEST)

    def drops_contaminated(self) -> bool:
        """Whether documents with a test item are kept out of the sample and of every selection."""
        return self.decontaminate is not None and self.decontaminate.action == "drop"

    def table(self, name: str) -> str:
        """Path of a table, `selected/NAME` included, below the output."""
        return f"{self.output.rstrip('/')}/{name}"


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration and validate it; no file of the input is looked at.

    Example:
        >>> from betr_spark import load_config
        >>> keys = {"input": {"path": "docs"}, "output": "out", "scorers": {}}
        >>> config = load_config(keys, ["input.id=doc_id", "minhash.bands=20"])
        >>> config.input.id, config.minhash.bands, config.dedup.similarity
        ('doc_id', 20, 0.75)

    Args:
        source: path of a YAML file, or its keys as a mapping. Relative paths in it are relative to the working directory.
        overrides: `key.sub=value`, as `--set` of the command line; the values are YAML.

    Returns:
        The configuration, frozen, with the defaults of the keys that are not given.

    Raises:
        ConfigError: with one line for every problem, each naming the key.
    """
    mapping = overridden(source if isinstance(source, Mapping) else read_mapping(source), overrides)
    try:
        return Config.model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(*dict.fromkeys(validation_problems(error, Config))) from None
