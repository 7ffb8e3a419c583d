"""What answers share: their base, and the arguments that many requests have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict

AsOf = Annotated[
    str | None,
    Query(description="Which version: its number, or a time (ISO 8601) for the one that was live then.", max_length=64),
]
MAX_PAGE = 1000
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="The most that are returned at once.")]
DocumentKey = Annotated[str, Query(min_length=1, max_length=4096, description="Its URL, path or row id.")]


class Answer(BaseModel):
    """Base of what requests are answered with: made of the records that the Python API returns, by name."""

    model_config = ConfigDict(from_attributes=True)
