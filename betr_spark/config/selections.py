"""What a selection keeps: which documents may be kept, how many, and in which shares."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from betr_spark.config.base import Model, ScorerName, Seed
from betr_spark.config.repetition import RepeatConfig

Column = Annotated[str, StringConstraints(min_length=1)]
Law = Literal["nemotron-cc", "dclm-refinedweb", "fixed-6.6b"]


class TrainingConfig(Model):
    """The training run that the selection is for: `flops`, or `parameters` and `tokens` (flops = 6 * parameters * tokens).

    Attributes:
        flops: of the training run.
        parameters: of the model.
        tokens: that the model is trained on.
        law: the published keep rate: `nemotron-cc` and `dclm-refinedweb` depend on the flops, `fixed-6.6b` on the tokens.
    """

    flops: float | None = Field(default=None, gt=0.0)
    parameters: float | None = Field(default=None, gt=0.0)
    tokens: float | None = Field(default=None, gt=0.0)
    law: Law = "nemotron-cc"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        given = [name for name in ("flops", "parameters", "tokens") if getattr(self, name) is not None]
        if self.law == "fixed-6.6b" and given != ["tokens"]:
            raise ValueError("law 'fixed-6.6b' requires tokens alone: its model has 6.6e9 parameters")
        if self.law != "fixed-6.6b" and given not in (["flops"], ["parameters", "tokens"]):
            raise ValueError(f"flops, or parameters and tokens, are required, found {', '.join(given) or 'none'}")
        return self

    def compute(self) -> float:
        """Training FLOPs."""
        return self.flops or 6.0 * (self.parameters or 6.6e9) * (self.tokens or 0.0)


class KeepConfig(Model):
    """Exactly one of these keys. `token_fraction` is of the survivors' tokens, `tokens` is in units of n_tokens.

    `min_score` is a score in [0, 1], or for an expression scorer a value of its column. `training` is the fraction of tokens
    that a published law gives for a training run. `tokens_of` names another selection, whose number of tokens is the budget.
    """

    token_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    tokens: int | None = Field(default=None, ge=0)
    documents: int | None = Field(default=None, ge=0)
    min_score: float | None = None
    training: TrainingConfig | None = None
    tokens_of: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"exactly one of {names} is required, found {', '.join(given) or 'none'}")
        return self


class PhaseConfig(Model):
    """A part of the training run.

    Attributes:
        name: in the column `phase`.
        tokens: that training reads in this phase.
        keep: the documents of the phase; without it, those of the selection's `keep`.
        seed: of the hash that decides which documents are repeated once more than others.
    """

    name: str = Field(min_length=1, max_length=100)
    tokens: int = Field(ge=1)
    keep: KeepConfig | None = None
    seed: Seed = 0


class SelectionConfig(Model):
    """One ranked table of kept documents.

    Attributes:
        scorer: ranks the documents.
        keep: the budget.
        where: a Spark SQL condition on columns of `features`, carried columns and columns of `annotations`; only documents for
            which it is true may be kept.
        annotations: path of a Delta or Parquet table: doc_id, at most one row for each document, and columns that `where`,
            `quota` and `max_fraction` may use.
        quota: COLUMN: {VALUE: SHARE}: documents with this value get this share of the budget, or, above 1, this number of
            tokens or documents; all others share the rest.
        max_fraction: COLUMN: FRACTION: no value of the column gets more than this fraction of the budget.
        balance: `benchmarks`: the selection has the same part of the first documents by each benchmark scorer of `scorer`.
        stratified: every source gets as many tokens as in the selection that `keep.tokens_of` names.
        sample: documents are repeated by their rank; `keep.tokens` is then the total after repetition.
        phases: parts of the training run in their order, each with its own tokens and `keep`.
        max_repeats: largest number of repeats of a document over all phases.
        disjoint: a document of a later phase is in no earlier one.
    """

    scorer: ScorerName
    keep: KeepConfig
    where: str | None = Field(default=None, min_length=1)
    annotations: str | None = Field(default=None, min_length=1)
    quota: dict[Column, dict[str, Annotated[float, Field(ge=0.0)]]] = Field(default_factory=dict, max_length=1)
    max_fraction: dict[Column, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(default_factory=dict, max_length=1)
    balance: Literal["benchmarks"] | None = None
    stratified: bool = False
    sample: RepeatConfig | None = None
    phases: tuple[PhaseConfig, ...] = ()
    max_repeats: int = Field(default=4, ge=1)
    disjoint: bool = False

    @model_validator(mode="after")
    def _sample_has_a_total(self) -> Self:
        if self.sample is not None and self.keep.tokens is None:
            raise ValueError("sample: keep.tokens is required; it is the number of tokens after repetition")
        if self.sample is not None and self.balanced_by() is not None:
            raise ValueError("sample: cannot be given with quota or max_fraction")
        return self

    @model_validator(mode="after")
    def _phases_are_alone(self) -> Self:
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError("phases: two phases have the same name")
        if not self.phases and (self.max_repeats != type(self).model_fields["max_repeats"].default or self.disjoint):
            raise ValueError("max_repeats and disjoint: only possible with phases")
        if self.phases and (self.sample is not None or self.keep.tokens_of is not None):
            raise ValueError("phases: cannot be given with sample or keep.tokens_of")
        for phase in self.phases:
            if phase.keep is not None and phase.keep.tokens_of is not None:
                raise ValueError(f"phases.{phase.name}.keep: tokens_of is not possible in a phase")
            if self.balanced_by() is not None and phase.keep is not None and phase.keep.min_score is not None:
                raise ValueError(
                    f"phases.{phase.name}.keep: quota and max_fraction require a budget, min_score is none"
                )
        return self

    @model_validator(mode="after")
    def _one_balance(self) -> Self:
        if self.quota and self.max_fraction:
            raise ValueError("quota and max_fraction cannot both be given")
        if self.stratified and (self.keep.tokens_of is None or self.balanced_by()):
            raise ValueError("stratified: keep.tokens_of is required, without quota and max_fraction")
        if self.balance and (self.phases or self.keep.min_score is not None or self.keep.tokens_of is not None):
            raise ValueError("balance: a budget is required, not min_score, tokens_of or phases")
        name = "quota" if self.quota else "max_fraction"
        if self.balanced_by() is not None and self.keep.min_score is not None:
            raise ValueError(f"{name}: a budget is required, but keep.min_score is none")
        for column, shares in self.quota.items():
            amounts = [value for value in shares.values() if value > 1]
            if not shares:
                raise ValueError(f"quota.{column}: at least one value is required")
            if amounts and (
                len(amounts) < len([value for value in shares.values() if value]) or any(a % 1 for a in amounts)
            ):
                raise ValueError(
                    f"quota.{column}: either shares in [0, 1] or whole numbers above 1 are required, not both"
                )
            whole = self.keep.tokens if self.keep.tokens is not None else self.keep.documents
            if amounts and whole is not None and sum(amounts) > whole:
                raise ValueError(f"quota.{column}: {sum(amounts):g} in all, more than the whole budget of {whole}")
            if not amounts and sum(shares.values()) > 1 + 1e-9:
                raise ValueError(f"quota.{column}: the shares add up to {sum(shares.values()):g}, more than 1")
        return self

    def keeps(self) -> list[KeepConfig]:
        """The selection's own rule, and those of its phases."""
        return [self.keep, *(phase.keep for phase in self.phases if phase.keep is not None)]

    def balanced_by(self) -> str | None:
        """The column of `quota` or `max_fraction`."""
        return next(iter([*self.quota, *self.max_fraction]), None)
