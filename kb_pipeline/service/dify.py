"""Dify's contract of an external knowledge base: `/dify/retrieval`."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from kb_pipeline.errors import UsageError
from kb_pipeline.index.filtered_rows import ATTRIBUTES
from kb_pipeline.index.search import MAX_HITS, unit_score
from kb_pipeline.service.api.search import MAX_QUERY_CHARS
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import open_kb

router = APIRouter(tags=["Dify"])
_MOST_CONDITIONS = 50
Operator = Literal[
    "contains", "not contains", "start with", "end with", "is", "is not", "in", "not in", "empty", "not empty",
    "=", "≠", ">", "<", "≥", "≤", "before", "after",
]  # fmt: skip
_COMPARISONS: dict[str, str] = {
    "contains": "contains", "not contains": "contains", "start with": "starts_with", "end with": "ends_with",
    "is": "eq", "is not": "eq", "in": "in", "not in": "in", "empty": "exists", "not empty": "exists",
    "=": "eq", "≠": "eq", ">": "gt", "<": "lt", "≥": "gte", "≤": "lte", "before": "lt", "after": "gt",
}  # fmt: skip
_NEGATIVE = ("not contains", "is not", "not in", "≠", "empty")
_NUMERIC = ("=", "≠", ">", "<", "≥", "≤")


class RetrievalSetting(BaseModel):
    """How much to return."""

    top_k: int = Field(ge=1, le=MAX_HITS)
    score_threshold: float | None = Field(default=None, ge=0, le=1)


class Condition(BaseModel):
    """What a metadata field of a document must be; of several names one must do."""

    name: str | list[str]
    comparison_operator: Operator
    value: str | float | list[str] | None = None


class MetadataCondition(BaseModel):
    """Conditions, and whether all or one must hold."""

    logical_operator: Literal["and", "or"] = "and"
    conditions: list[Condition] = Field(default=[], max_length=_MOST_CONDITIONS)


class RetrievalRequest(BaseModel):
    """What Dify asks; members that are not of its contract are left aside."""

    knowledge_id: str = Field(max_length=127, description="The KB's id: tenant.kb.")
    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    retrieval_setting: RetrievalSetting
    metadata_condition: MetadataCondition | None = None


class RetrievedRecord(BaseModel):
    """A chunk that answers."""

    content: str
    score: float = Field(description="0 to 1: how well it ranks by words and by meaning; 1 is first by both.")
    title: str
    metadata: dict[str, str | int]


class Retrieved(BaseModel):
    """The best chunks, best first."""

    records: list[RetrievedRecord]


@router.post("/dify/retrieval")
def retrieve(asked: RetrievalRequest, home: HomeOfCaller) -> Retrieved:
    """Return the best chunks of a KB's live version, as Dify asks for them."""
    setting = asked.retrieval_setting
    found = open_kb(home, asked.knowledge_id).search(asked.query, setting.top_k, filters=_filter(asked))
    records = [
        RetrievedRecord(
            content=hit.text,
            score=round(unit_score(hit.score, found.mode), 6),
            title=hit.title,
            metadata={
                "key": hit.key, "title": hit.title, "language": hit.language, "headings": " > ".join(hit.headings),
                "document_id": hit.document_id, "chunk_id": hit.chunk_id, "version": found.version,
            },
        )
        for hit in found
    ]  # fmt: skip
    return Retrieved(records=[each for each in records if each.score >= (setting.score_threshold or 0)])


def _filter(asked: RetrievalRequest) -> dict[str, Any] | None:
    condition = asked.metadata_condition
    if condition is None or not condition.conditions:
        return None
    return {"type": condition.logical_operator, "filters": [_translated(each) for each in condition.conditions]}


def _translated(condition: Condition) -> dict[str, Any]:
    """Return a condition in the filter language; a negative one is that none of the names has the positive."""
    names = [condition.name] if isinstance(condition.name, str) else condition.name
    if not names:
        raise UsageError("metadata_condition: a condition names no field")
    positive = [_comparison(name, condition) for name in names]
    return {"type": "not" if condition.comparison_operator in _NEGATIVE else "or", "filters": positive}


def _comparison(name: str, condition: Condition) -> dict[str, Any]:
    operator = condition.comparison_operator
    key = name if name in ATTRIBUTES or name.startswith("metadata.") else f"metadata.{name}"
    return {"type": _COMPARISONS[operator], "key": key, "value": _value(key, condition)}


def _value(key: str, condition: Condition) -> object:
    operator, value = condition.comparison_operator, condition.value
    if operator in ("empty", "not empty"):
        return True
    if value is None:
        raise UsageError(f"metadata_condition: {operator!r} takes a value")
    if operator in ("in", "not in"):
        return value if isinstance(value, list) else [each.strip() for each in str(value).split(",")]
    if isinstance(value, list):
        raise UsageError(f"metadata_condition: {operator!r} takes one value; 'in' and 'not in' take several")
    kind = ATTRIBUTES.get(key)
    if kind == "time":
        return value
    if kind is None and (operator in _NUMERIC or isinstance(value, float)):  # metadata: numbers are compared as such
        return _number(value)
    return str(value)


def _number(value: str | float) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value
