"""What all parts of the configuration share."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_validator,
    model_serializer,
)

from betr_spark.redaction import has_credentials

Auto = Literal["auto"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
ScorerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]


class Model(BaseModel):
    """A frozen part of the configuration; unknown keys are errors, and so are credentials in a path.

    Attributes:
        added_later: fields that a model got after outputs were written with it. With its default, such a field is not in the
            model's dump, so the keys of stages are those of before the field, and no stage runs again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
    added_later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        fields = type(self).model_fields
        for name in self.added_later & values.keys():
            if getattr(self, name) == fields[name].default:
                del values[name]
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any) -> Any:
        if isinstance(value, str) and has_credentials(value):
            raise ValueError(
                "a path with credentials in it; remove them, and give them to Hadoop's client by environment variables or "
                "an instance's role (docs/cluster.md, Object stores)"
            )
        return value
