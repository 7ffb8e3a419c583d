"""The filter language of search: comparisons of a document's attributes, joined by `and`, `or` and `not`.

It is the form of OpenAI's vector stores, `{"type": "eq", "key": "language", "value": "en"}` and
`{"type": "and", "filters": [...]}`, with some more operators: `contains`, `starts_with`, `ends_with`, `exists`, `not`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from kb_pipeline.errors import UsageError

MAX_DEPTH = 8
"""Compound filters within one another."""
MAX_COMPARISONS = 100
MAX_VALUES = 1000
"""In the list of one `in` or `nin`."""
MAX_VALUE_CHARS = 2000
_OF_LISTS = ("in", "nin")
_COMPOUND = ("and", "or", "not")

Scalar = Annotated[StrictStr, Field(max_length=MAX_VALUE_CHARS)] | StrictBool | StrictInt | StrictFloat


class Comparison(BaseModel):
    """What an attribute of a document must be."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    type: Literal[
        "eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "starts_with", "ends_with", "exists"
    ] = Field(description="`ne` and `nin` also hold for documents without the attribute.")
    key: str = Field(min_length=1, max_length=200, description="The attribute, or `metadata.NAME`.")
    value: Scalar | Annotated[list[Scalar], Field(max_length=MAX_VALUES)] = Field(
        description="A list for `in` and `nin`, true or false for `exists`. Times are ISO 8601 or Unix seconds."
    )

    @model_validator(mode="after")
    def _fits(self) -> Comparison:
        if isinstance(self.value, list) != (self.type in _OF_LISTS):
            raise ValueError(f"{self.type} takes {'a list of values' if self.type in _OF_LISTS else 'one value'}")
        if (self.type == "exists") and not isinstance(self.value, bool):
            raise ValueError("exists takes true or false")
        return self


class Compound(BaseModel):
    """Filters of which all (`and`), one (`or`) or none (`not`) must hold."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["and", "or", "not"]
    filters: list[AnyFilter] = Field(min_length=1, max_length=MAX_COMPARISONS)


def _kind(value: object) -> str:
    given = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "compound" if given in _COMPOUND else "comparison"


def _bounded(value: Any) -> Any:  # noqa: ANN401 - not validated yet
    """Refuse what is too deep or too large before it is walked by recursion."""
    level, depth, comparisons = [value], 0, 0
    while level:
        inner = [each["filters"] for each in level if isinstance(each, dict) and isinstance(each.get("filters"), list)]
        comparisons += len(level) - len(inner)
        if depth > MAX_DEPTH or comparisons > MAX_COMPARISONS:
            raise ValueError(f"allowed are {MAX_DEPTH} levels and {MAX_COMPARISONS} comparisons")
        level, depth = [each for filters in inner for each in filters], depth + 1
    return value


AnyFilter = Annotated[
    Annotated[Comparison, Tag("comparison")] | Annotated[Compound, Tag("compound")], Discriminator(_kind)
]
Filter = Annotated[AnyFilter, BeforeValidator(_bounded)]
"""A filter as a client writes it: validated, and bounded in depth and size."""
Compound.model_rebuild()
_FILTER: TypeAdapter[Comparison | Compound] = TypeAdapter(Filter)


def read_filter(value: object) -> Comparison | Compound:
    """Return the filter that a JSON object describes.

    Raises:
        UsageError: it is none; the message names each place, what is wrong and what is allowed.
    """
    try:
        return _FILTER.validate_python(value)
    except ValidationError as error:
        wrong = "; ".join(f"{_place(each['loc'])}: {each['msg']}" for each in error.errors(include_url=False))
        raise UsageError(f"the filter is not valid: {wrong}") from None


def _place(location: tuple[int | str, ...]) -> str:
    named = [str(each) for each in location if each not in ("comparison", "compound")]
    return "/".join(named) or "filter"
