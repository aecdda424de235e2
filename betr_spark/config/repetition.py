"""How often a selection repeats its documents."""

from typing import Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model, Seed


class CurveConfig(Model):
    """Repeats by position in the ranking: none for the worst tokens, and more the better a document is.

    Attributes:
        drop: fraction of the eligible tokens, the worst, that is left out.
        cap: largest mean number of repeats of any 5 % of the tokens.
        max_exponent: the steepest curve that is allowed where the cap does not bind.
        seed: of the draw that rounds a document's expected number of repeats.
    """

    drop: float = Field(default=0.4, ge=0.0, lt=1.0)
    cap: float = Field(default=7.0, gt=0.0, le=1000.0)
    max_exponent: float = Field(default=8.0, ge=0.0, le=100.0)
    seed: Seed = 0


class SigmoidConfig(Model):
    """Repeats by a sigmoid of the position in the ranking, from `floor` for the worst to `cap` for the best tokens.

    Attributes:
        temperature: width of the rise, as a fraction of the tokens; a lower one is closer to a cut.
        floor: repeats that the worst documents tend to.
        cap: repeats that the best documents tend to.
        seed: as that of a curve.
    """

    temperature: float = Field(default=0.05, gt=0.0, le=1.0)
    floor: float = Field(default=0.0, ge=0.0)
    cap: float = Field(default=7.0, gt=0.0, le=1000.0)
    seed: Seed = 0

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.floor >= self.cap:
            raise ValueError(f"floor: {self.floor:g} is not below cap, which is {self.cap:g}")
        return self


class SoftCapConfig(Model):
    """Repeats by a value that falls with each draw: the document with the highest value is drawn next.

    Attributes:
        penalty: a draw multiplies a document's value by it; the value begins as its position in the ranking, 1 for the best.
        cap: most repeats of a document.
        seed: as that of a curve.
    """

    penalty: float = Field(default=0.5, gt=0.0, lt=1.0)
    cap: int = Field(default=7, ge=1, le=1000)
    seed: Seed = 0


class RepeatConfig(Model):
    """How documents are repeated: exactly one of these keys.

    Attributes:
        curve: a power of the position in the ranking.
        sigmoid: a sigmoid of the position in the ranking.
        soft_cap: each draw of a document makes its next draw less likely.
    """

    curve: CurveConfig | None = None
    sigmoid: SigmoidConfig | None = None
    soft_cap: SoftCapConfig | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(shape is not None for shape in (self.curve, self.sigmoid, self.soft_cap)) != 1:
            raise ValueError("exactly one of curve, sigmoid and soft_cap is required")
        return self

    def shape(self) -> CurveConfig | SigmoidConfig | SoftCapConfig:
        """The one that is given."""
        return self.curve or self.sigmoid or self.soft_cap or CurveConfig()
