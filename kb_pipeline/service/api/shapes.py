"""What answers share: their base, and the arguments that many requests have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from kb_pipeline.index.document_page import MAX_PAGE

AsOf = Annotated[
    str | None,
    Query(description="Which version: its number, or a time (ISO 8601) for the one that was live then.", max_length=64),
]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="The most that are returned at once.")]


class Answer(BaseModel):
    """Base of what requests are answered with: made of the records that the Python API returns, by name."""

    model_config = ConfigDict(from_attributes=True)
