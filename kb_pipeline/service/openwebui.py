"""Open WebUI's contract of an external web search: `/openwebui/search`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from kb_pipeline.errors import NoLiveVersion, UsageError
from kb_pipeline.index.search import MAX_HITS, unit_score
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.service.api.search import MAX_QUERY_CHARS
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import open_kb

router = APIRouter(tags=["Open WebUI"])
_MOST_KBS = 20
_HITS_A_PAGE = 3
"""Asked for of each wanted page, since several chunks of one page may be among the best."""


class WebSearch(BaseModel):
    """What Open WebUI asks; members that are not of its contract are left aside."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    count: int = Field(default=5, ge=1, le=MAX_HITS)


class WebResult(BaseModel):
    """A page that answers."""

    link: str
    title: str
    snippet: str


@router.post("/openwebui/search")
def search_pages(
    asked: WebSearch,
    home: HomeOfCaller,
    kb: Annotated[
        list[str] | None,
        Query(max_length=_MOST_KBS, description="Only these KBs; without it, all that the key sees."),
    ] = None,
) -> list[WebResult]:
    """Return the pages of live versions that answer best, each once, with the passage that does."""
    best: dict[str, tuple[float, WebResult]] = {}
    for opened in _opened(home, kb):
        for score, result in _found(opened, asked):
            if result.link not in best or best[result.link][0] < score:
                best[result.link] = score, result
    ordered = sorted(best.values(), key=lambda each: (-each[0], each[1].link))
    return [result for _, result in ordered[: asked.count]]


def _opened(home: Installation, named: list[str] | None) -> list[Kb]:
    if named:
        return [open_kb(home, each) for each in named]
    visible = home.kbs()
    if len(visible) > _MOST_KBS:
        raise UsageError(f"the key may see {len(visible)} KBs; name at most {_MOST_KBS} of them: ?kb=tenant.kb&kb=...")
    return visible


def _found(kb: Kb, asked: WebSearch) -> list[tuple[float, WebResult]]:
    try:
        found = kb.search(asked.query, min(MAX_HITS, asked.count * _HITS_A_PAGE))
    except NoLiveVersion:
        return []
    return [
        (unit_score(hit.score, found.mode), WebResult(link=hit.key, title=hit.title or hit.key, snippet=passage.text))
        for hit, passage in zip(found, found.passages, strict=True)
    ]
