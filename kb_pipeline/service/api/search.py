"""Search of one KB."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.errors import UsageError
from kb_pipeline.index.filters import Filter, read_filter
from kb_pipeline.index.search import MAX_HITS, Mode
from kb_pipeline.installation import Kb
from kb_pipeline.model import JsonObject
from kb_pipeline.service.api.shapes import Answer, AsOf, has_tag
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, open_kb
from kb_pipeline.service.search_pages import DECIDING, place_of, search_page

router = APIRouter(tags=["search"])
MAX_QUERY_CHARS = 4000
MAX_CURSOR_CHARS = 200


class Passage(Answer):
    """The part of a hit that a person wants to read."""

    text: str
    marks: list[tuple[int, int]] = Field(description="Start and end of each word of the query in it.")


class Hit(Answer):
    """One chunk that answers."""

    rank: int
    score: float
    key: str
    title: str
    headings: list[str]
    text: str
    language: str
    document_id: str
    chunk_id: str
    start: int
    end: int
    passage: Passage | None = None


class Hits(Answer):
    """The best chunks of one version, best first."""

    id: KbId
    version: int
    mode: Mode
    hits: list[Hit]
    cursor: str | None = Field(description="Of the next page, of the same version; null on the last one.")


class SearchRequest(BaseModel):
    """What to search for."""

    model_config = ConfigDict(extra="forbid")
    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    k: int = Field(default=10, ge=1, le=MAX_HITS)
    mode: Mode = "hybrid"
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$", description="ISO 639.")
    filters: Filter | None = Field(default=None, description="Only documents that satisfy it.")
    as_of: str | int | None = Field(default=None, description="A version's number, or a time.")
    highlights: bool = Field(default=False, description="Whether to choose the passage of each hit and mark it.")
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR_CHARS, description="Of the page before.")


@router.get("/kbs/{kb}/search", responses={304: {"description": "As the client has it."}})
def search(
    kb: KbInPath,
    home: HomeOfCaller,
    response: Response,
    q: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARS, description="Words or a question.")],
    k: Annotated[int, Query(ge=1, le=MAX_HITS)] = 10,
    mode: Mode = "hybrid",
    language: Annotated[str | None, Query(pattern="^[a-z]{2,3}$")] = None,
    filters: Annotated[str | None, Query(max_length=20_000, description="A filter, as JSON.")] = None,
    as_of: AsOf = None,
    highlights: bool = False,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR_CHARS, description="Of the page before.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:  # noqa: ANN401 - Hits, or 304 without a body
    """Return the best chunks of a version. An `ETag` names version and request: the same gives 304 until a publish."""
    asked = SearchRequest(
        query=q, k=k, mode=mode, language=language, filters=None if filters is None else _parsed(filters),
        as_of=as_of, highlights=highlights, cursor=cursor,
    )  # fmt: skip
    if if_none_match is not None:
        tag = _etag(*_searched_data(open_kb(home, kb), asked), asked)
        if has_tag(if_none_match, tag):
            return Response(status_code=304, headers={"ETag": tag})
    found, data_digest = _search(kb, home, asked)
    response.headers["ETag"] = _etag(found.version, data_digest, asked)
    return found


@router.post("/kbs/{kb}/search")
def search_by_body(kb: KbInPath, asked: SearchRequest, home: HomeOfCaller) -> Hits:
    """Return the best chunks of a version; as `GET`, for queries that are long or private."""
    return _search(kb, home, asked)[0]


class SearchOfKb(SearchRequest):
    """What to search for, and where."""

    kb: str = Field(max_length=127, examples=["acme.handbook"], description="The KB's id: tenant.kb.")


@router.post("/search")
def search_named_kb(asked: SearchOfKb, home: HomeOfCaller) -> Hits:
    """Return the best chunks of a version: another name of `POST /kbs/{kb}/search`, with the KB in the body."""
    return _search(asked.kb, home, asked)[0]


def _search(kb: str, home: HomeOfCaller, asked: SearchRequest) -> tuple[Hits, str]:
    page = search_page(open_kb(home, kb), _deciding(asked), asked.k, cursor=asked.cursor, as_of=asked.as_of)
    found = page.found
    hits = [Hit.model_validate(each) for each in found]
    if asked.highlights:
        for hit, passage in zip(hits, found.passages, strict=True):
            hit.passage = Passage.model_validate(passage)
    has_more = bool(hits) and page.offset + len(hits) < found.ranked
    cursor = page.cursor_after(len(hits)) if has_more else None
    return Hits(id=kb, version=found.version, mode=found.mode, hits=hits, cursor=cursor), found.data_digest


def _searched_data(kb: Kb, asked: SearchRequest) -> tuple[int, str]:
    place = place_of(asked.cursor, _deciding(asked))
    return kb.searched_data(as_of=place.version if place else asked.as_of)


def _parsed(filters: str) -> Any:  # noqa: ANN401 - of what a filter is made
    try:
        return read_filter(json.loads(filters))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"filters is no JSON: {error}") from None


def _deciding(asked: SearchRequest) -> JsonObject:
    return asked.model_dump(include=DECIDING)


def _etag(version: int, data_digest: str, asked: SearchRequest) -> str:
    body = json.dumps([data_digest, asked.model_dump(exclude={"as_of"})], sort_keys=True)
    return f'"v{version}-{hashlib.sha256(body.encode()).hexdigest()[:16]}"'
