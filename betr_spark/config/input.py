"""The input: where the documents are, and the columns that are read."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from betr_spark.config.base import Model
from betr_spark.config.column_path import checked_column, column_path
from betr_spark.schemas import QUARANTINE_COLUMNS, SELECTED_COLUMNS

ColumnName = Annotated[str, Field(min_length=1), AfterValidator(checked_column)]
NOT_IN_DELTA = frozenset(" ,;{}()\n\t=")  # no column's name may hold these


class TokensConfig(Model):
    """What token budgets count: tokens of a tokenizer, a column of the input, or, if neither is given, words.

    Attributes:
        tokenizer: path of a JSON file of Hugging Face's `tokenizers`.
        column: a numeric column that has the number of tokens of each document.
        estimate: one document in so many, by a hash of its id, is tokenized; the tokens of the others are estimated.
    """

    tokenizer: str | None = Field(default=None, min_length=1)
    column: ColumnName | None = None
    estimate: int | None = Field(default=None, ge=2, le=10**6)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.tokenizer is not None and self.column is not None:
            raise ValueError("tokenizer and column cannot both be given")
        if self.estimate is not None and self.tokenizer is None:
            raise ValueError("estimate: a tokenizer is required; a column has the number of every document")
        return self

    @property
    def are_words(self) -> bool:
        """Whether nothing is given."""
        return self.tokenizer is None and self.column is None

    @property
    def unit(self) -> str:
        """The unit of token budgets, for people.

        >>> TokensConfig().unit, TokensConfig(column="doc.n").unit, TokensConfig(tokenizer="s3a://b/gpt2.json").unit
        ('words', 'column doc.n', 'tokens of gpt2.json')
        """
        if self.tokenizer is None:
            return "words" if self.column is None else f"column {self.column}"
        estimated = "" if self.estimate is None else f", estimated from 1 document in {self.estimate}"
        return f"tokens of {self.tokenizer.rstrip('/').rpartition('/')[2]}{estimated}"


class InputConfig(Model):
    """Where the documents are and which columns are read. Without `id`, the id is a 128-bit hash of the text.

    `columns` maps the name of a carried column in the output to the column of the input; a list keeps the names.
    """

    path: str = Field(min_length=1)
    format: Literal["parquet", "delta", "json"] = "parquet"
    id: ColumnName | None = None
    text: ColumnName = "text"
    source: ColumnName | None = None
    columns: dict[str, ColumnName] = Field(default_factory=dict)
    tokens: TokensConfig = TokensConfig()
    max_text_bytes: int = Field(default=16 * 2**20, gt=0, lt=2**31)
    max_batch_bytes: int = Field(default=64 * 2**30, gt=0, lt=2**63)

    @field_validator("format", mode="before")
    @classmethod
    def _other_names(cls, name: Any) -> Any:
        return "json" if name == "jsonl" else name

    @field_validator("columns", mode="before")
    @classmethod
    def _named_by_last_step(cls, columns: Any) -> Any:
        if not isinstance(columns, list | tuple) or not all(isinstance(column, str) for column in columns):
            return columns
        mapping: dict[str, str] = {}
        for column in columns:
            name = column_path(column)[-1]
            if name in mapping:
                raise ValueError(f"'{name}' is given twice; use a mapping {{output name: input column}} to rename one")
            mapping[name] = column
        return mapping

    @model_validator(mode="after")
    def _output_names_are_free(self) -> Self:
        lowered = [name.lower() for name in self.columns]  # Spark ignores case in names
        for name in self.columns:
            if name.lower() in (*SELECTED_COLUMNS, *QUARANTINE_COLUMNS):
                raise ValueError(
                    f"columns: '{name}' is the name of a column of the output; "
                    f"rename the carried column: 'columns: {{input_{name}: {self.columns[name]}}}'"
                )
            if lowered.count(name.lower()) > 1:
                raise ValueError(f"columns: '{name}' is given twice, except for upper and lower case")
            if set(name) & NOT_IN_DELTA:
                raise ValueError(
                    f"columns: '{name}' has a character that Delta's column names must not have; "
                    "rename the carried column: 'columns: {OUTPUT_NAME: INPUT_COLUMN}'"
                )
        return self
