"""What answers share: their base, and the arguments that many requests have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.index.document_page import MAX_PAGE

AsOf = Annotated[
    str | None,
    Query(description="Which version: its number, or a time (ISO 8601) for the one that was live then.", max_length=64),
]
After = Annotated[str, Query(max_length=127, description="The `after` of the page before.")]
NextPage = Annotated[str | None, Field(description="What to give as `after` for the next page; null on the last one.")]
Skip = Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")]
NextSkip = Annotated[int | None, Field(description="What to give as `skip` for the next page; null on the last one.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="The most that are returned at once.")]

_Item = TypeVar("_Item")


class Answer(BaseModel):
    """Base of what requests are answered with: made of the records that the Python API returns, by name."""

    model_config = ConfigDict(from_attributes=True)


def page_after(
    items: Iterable[_Item], place: Callable[[_Item], str], after: str, limit: int
) -> tuple[list[_Item], str | None]:
    """Return the items of one page, and the place after which the next page begins; None on the last one.

    Args:
        items: all of them, in any order.
        place: where an item stands among the others, which no two share.
        after: the place after which the page begins; empty for the first page.
        limit: the most items of a page.
    """
    rest = sorted((each for each in items if place(each) > after), key=place)
    page = rest[:limit]
    return page, place(page[-1]) if len(rest) > limit else None


def page_from(items: Iterable[_Item], skip: int, limit: int) -> tuple[list[_Item], int | None]:
    """Return the items of one page, and how many the next page passes over; None on the last one.

    Args:
        items: all of them, in order; those behind the page are not read.
        skip: how many come before the page.
        limit: the most items of a page.
    """
    page = list(islice(items, skip, skip + limit + 1))
    return page[:limit], skip + limit if len(page) > limit else None


def has_tag(if_none_match: str | None, tag: str) -> bool:
    """Return whether the client has what an `ETag` names already; a proxy that compresses marks it as weak."""
    return tag in {each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")}
