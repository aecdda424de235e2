"""What all parts of the configuration share."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from betr_spark.redaction import has_credentials

Auto = Literal["auto"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
ScorerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]


class Model(BaseModel):
    """A frozen part of the configuration; unknown keys are errors, and so are credentials in a path."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any) -> Any:
        if isinstance(value, str) and has_credentials(value):
            raise ValueError(
                "a path with credentials in it; remove them, and give them to Hadoop's client by environment variables or "
                "an instance's role (docs/cluster.md, Object stores)"
            )
        return value
